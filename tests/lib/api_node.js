// SPDX-License-Identifier: Apache-2.0
// The API through @grpc/grpc-js with server reflection only; prints one line a check and exits 1 if one fails.
'use strict';
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const target = process.argv[2];
const fake = process.argv[3] === 'fake';
const creds = grpc.credentials.createInsecure();
let failed = 0;

function ok(name, good, info) {
	if (!good)
		failed++;
	console.log(good ? 'ok  ' : 'FAIL', name, good ? '' : JSON.stringify(info));
}
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

// The reflection protocol itself is all that a client must know.
function reflectionTypes(version) {
	const root = protobuf.Root.fromJSON({nested: {
		Request: {fields: {filename: {id: 3, type: 'string'}, symbol: {id: 4, type: 'string'}, list: {id: 7, type: 'string'}}},
		Files: {fields: {raw: {id: 1, type: 'bytes', rule: 'repeated'}}},
		Service: {fields: {name: {id: 1, type: 'string'}}},
		Services: {fields: {service: {id: 1, type: 'Service', rule: 'repeated'}}},
		Response: {fields: {files: {id: 4, type: 'Files'}, services: {id: 6, type: 'Services'}}},
	}});
	return [root.lookupType('Request'), root.lookupType('Response'),
		`/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`];
}

function ask(client, version, questions) {
	const [Req, Rsp, path] = reflectionTypes(version);
	return new Promise((resolve, reject) => {
		const answers = [];
		const call = client.makeBidiStreamRequest(path, (m) => Buffer.from(Req.encode(m).finish()), (b) => Rsp.decode(b));
		call.on('data', (m) => answers.push(m));
		call.on('error', reject);
		call.on('end', () => resolve(answers));
		questions.forEach((q) => call.write(q));
		call.end();
	});
}

// FileDescriptorSet: field 1, each file once.
function descriptorSet(answers) {
	const seen = new Set();
	const w = protobuf.Writer.create();
	for (const a of answers)
		for (const raw of a.files.raw) {
			const key = Buffer.from(raw).toString('base64');
			if (!seen.has(key)) {
				seen.add(key);
				w.uint32(10).bytes(raw);
			}
		}
	return Buffer.from(w.finish());
}

async function load(version) {
	const client = new grpc.Client(target, creds);
	const [list] = await ask(client, version, [{list: '*'}]);
	const names = list.services.service.map((s) => s.name);
	const answers = await ask(client, version, names.map((symbol) => ({symbol})));
	client.close();
	ok(`reflection ${version}`, names.includes('ringside.v1.QueryService') && answers.length === names.length, names);
	const pkg = grpc.loadPackageDefinition(loader.loadFileDescriptorSetFromBuffer(descriptorSet(answers),
		{keepCase: true, longs: Number, enums: String, oneofs: true, defaults: true}));
	return pkg;
}

const unary = (c, method, req, opts) => new Promise((resolve) =>
	c[method](req, opts || {}, (error, answer) => resolve(error ? {error} : {answer})));

function stream(call, limit) {
	return new Promise((resolve) => {
		const got = [];
		call.on('data', (m) => {
			got.push(m);
			if (limit && got.length === limit)
				call.cancel();
		});
		call.on('error', (error) => resolve({got, error}));
		call.on('end', () => resolve({got}));
	});
}

async function unaryChecks(v1, health) {
	const plugins = new v1.PluginService(target, creds);
	let r = await unary(health, 'Check', {service: ''});
	ok('health', r.answer && r.answer.status === 'SERVING', r);
	r = await unary(health, 'Check', {service: 'nobody'});
	ok('health of an unknown service', r.error && r.error.code === 5, r);
	r = await unary(plugins, 'ListPlugins', {});
	ok('plugins', r.answer && r.answer.plugins.length > 0, r);
	r = await unary(plugins, 'GetPlugin', {name: 'nosuch'});
	ok('an unknown plugin is named', r.error && r.error.code === 5 && r.error.details.includes('nosuch'), r);
	if (fake) {
		r = await unary(plugins, 'EnablePlugin', {name: 'slow'}, {deadline: Date.now() + 100});
		ok('a deadline', r.error && r.error.code === 4, r);
		// From descriptors protobufjs makes maps what they are on the wire: repeated entries.
		r = await unary(plugins, 'EnablePlugin', {name: 'beta', options: [{key: 'interval', value: '3s'}]});
		ok('options', r.answer && r.answer.plugin.options[0].value === '3s', r);
	}
}

async function queryChecks(v1) {
	const queries = new v1.QueryService(target, creds);
	let r = await stream(queries.Query({sql: "SELECT 1 AS a, 'ä' AS b, NULL AS c, x'00ff' AS d"}));
	const row = r.got[1] && r.got[1].rows.values;
	ok('query', !r.error && row && row[0].integer === 1 && row[1].text === 'ä' && !row[2].kind &&
		Buffer.compare(row[3].blob, Buffer.from([0, 255])) === 0, r);
	const many = 'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 20011) SELECT x FROM c';
	r = await stream(queries.Query({sql: many}));
	ok('20011 rows', r.got.reduce((n, m) => n + (m.rows ? m.rows.row_count : 0), 0) === 20011, r.error);
	r = await stream(queries.Query({sql: many}), 3);
	ok('cancelled in the middle', r.error && r.error.code === 1, r.error);
	r = await stream(queries.Query({sql: 'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c'},
		{deadline: Date.now() + 300}));
	ok('a deadline ends a query', r.error && r.error.code === 4, r.error);
}

async function watchChecks(v1, health) {
	const tables = new v1.TableService(target, creds);
	if (!fake)
		return;
	let r = await stream(tables.WatchRows({tables: ['events'], max_rows: 500}));
	ok('500 rows', !r.error && r.got.reduce((n, m) => n + (m.rows ? m.rows.row_count : 0), 0) === 500, r.error);
	const live = [];
	let fed = 0;
	for (let i = 0; i < 1000; i++) {
		const s = tables.WatchRows({tables: ['events']});
		let first = true;
		s.on('data', () => {
			fed += first;
			first = false;
		});
		s.on('error', () => {});
		live.push(s);
	}
	for (let i = 0; i < 300 && fed < 1000; i++)
		await sleep(50);
	ok('1,000 streams', fed === 1000, fed);
	live.forEach((s) => s.cancel());
	const paused = tables.WatchRows({tables: ['events']});
	paused.on('error', () => {});
	paused.once('data', () => paused.pause());
	await sleep(500);
	r = await unary(health, 'Check', {service: ''});
	ok('a paused reader holds nobody up', r.answer && r.answer.status === 'SERVING', r);
	paused.cancel();
}

(async () => {
	const pkg = await load('v1');
	await load('v1alpha');
	const health = new pkg.grpc.health.v1.Health(target, creds);
	await unaryChecks(pkg.ringside.v1, health);
	await queryChecks(pkg.ringside.v1);
	await watchChecks(pkg.ringside.v1, health);
	process.exit(failed ? 1 : 0);
})().catch((e) => {
	console.log('FAIL', e.stack);
	process.exit(1);
});
