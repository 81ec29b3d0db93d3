// SPDX-License-Identifier: Apache-2.0
/* Reads certificate files with OpenSSL's parser before gRPC sees them: its own errors name no file. */
#include "api/pem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <sys/stat.h>

/* A bundle of all public CAs is 220 KiB. */
#define PEM_MAX (1u << 20)

DEFINE_CLEANUP(BIO *, BIO_free)
DEFINE_CLEANUP(X509 *, X509_free)
DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free)

static int read_file(const char *path, char **ret, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	_cleanup_free_ char *data = NULL;
	struct stat st;
	size_t len = 0;

	if (fd < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is not a regular file", path);
	if (st.st_size <= 0 || st.st_size > PEM_MAX)
		return err_set(err, -EINVAL, "'%s' has %lld bytes; a PEM file of up to 1 MiB is wanted", path,
			       (long long)st.st_size);
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		return err_set(err, -ENOMEM, "no memory to read '%s'", path);
	while (len < (size_t)st.st_size) {
		ssize_t n = read(fd, data + len, (size_t)st.st_size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
		if (n == 0)
			break;
		len += (size_t)n;
	}
	data[len] = 0;
	*ret = TAKE_PTR(data);
	return 0;
}

static X509 *parse_cert(const char *pem)
{
	_cleanup_(BIO_freep) BIO *bio = BIO_new_mem_buf(pem, -1);

	return bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
}

/* An encrypted key must fail instead of asking on the terminal. */
static int no_passphrase(char *buf _unused_, int size _unused_, int rw _unused_, void *arg _unused_)
{
	return -1;
}

static EVP_PKEY *parse_key(const char *pem)
{
	_cleanup_(BIO_freep) BIO *bio = BIO_new_mem_buf(pem, -1);

	return bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
}

int pem_load(struct pem *ret, const char *ca, const char *cert, const char *key, struct err *err)
{
	_cleanup_pem_ struct pem p = {};
	_cleanup_(X509_freep) X509 *root = NULL, *own = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *pkey = NULL;
	int r;

	r = read_file(ca, &p.ca, err);
	if (r < 0)
		return r;
	r = read_file(cert, &p.cert, err);
	if (r < 0)
		return r;
	r = read_file(key, &p.key, err);
	if (r < 0)
		return r;
	root = parse_cert(p.ca);
	if (!root)
		return err_set(err, -EINVAL, "'%s' holds no certificate in PEM form", ca);
	own = parse_cert(p.cert);
	if (!own)
		return err_set(err, -EINVAL, "'%s' holds no certificate in PEM form", cert);
	pkey = parse_key(p.key);
	if (!pkey)
		return err_set(err, -EINVAL, "'%s' holds no unencrypted private key in PEM form", key);
	if (X509_check_private_key(own, pkey) != 1)
		return err_set(err, -EINVAL, "the key '%s' doesn't belong to the certificate '%s'", key, cert);
	*ret = p;
	p = (struct pem){};
	return 0;
}

void pem_free(struct pem *p)
{
	if (p->key)
		explicit_bzero(p->key, strlen(p->key));
	free(p->ca);
	free(p->cert);
	free(p->key);
	*p = (struct pem){};
}
