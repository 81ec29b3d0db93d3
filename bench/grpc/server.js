// SPDX-License-Identifier: Apache-2.0
// The three methods of the benchmark on @grpc/grpc-js: server.js SOCKET API_FDS
'use strict';
const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const pkg = grpc.loadPackageDefinition(loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(process.argv[3]),
	{keepCase: true, longs: Number, enums: Number}));

function check(call, done) {
	done(null, {status: 1});
}

function get(call, done) {
	done(null, {plugin: {name: call.request.name, help: 'Fake plugin 0', state: 3, etag: '1', tables: ['events'],
		options: [{key: 'interval', type: 'duration', value: '10s', default: '10s', origin: 'default'}],
		programs: [{name: 'prog'}], stats: {}}});
}

// 64 rows a message, as fast as the stream takes them.
function query(call) {
	let seq = 0;
	const columns = [];
	for (let i = 0; i < 7; i++)
		columns.push({name: 'c' + i});
	call.write({columns: {columns}});
	function next() {
		for (;;) {
			if (call.cancelled)
				return;
			const values = [];
			for (let i = 0; i < 64; i++) {
				seq++;
				values.push({integer: 1763700000000000000 + seq}, {integer: seq}, {real: seq / 2},
					{text: 'row-' + seq % 1000}, {text: 'xxxxxxxx'}, {text: '10.1.2.3'}, {integer: seq & 1});
			}
			if (!call.write({rows: {row_count: 64, values}})) {
				call.once('drain', next);
				return;
			}
		}
	}
	next();
}

const server = new grpc.Server();
server.addService(pkg.grpc.health.v1.Health.service, {Check: check, Watch: () => {}});
server.addService(pkg.ringside.v1.PluginService.service, {GetPlugin: get});
server.addService(pkg.ringside.v1.QueryService.service, {Query: query});
server.bindAsync('unix:' + process.argv[2], grpc.ServerCredentials.createInsecure(), (error) => {
	if (error)
		throw error;
	console.log('ready');
});
process.on('SIGTERM', () => process.exit(0));
