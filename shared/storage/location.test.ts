import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { hasLogin, isLocalLocation, localPathOf, nameLocation, schemeOf } from './location.ts';
import { openStorage } from './open-storage.ts';

describe('the name of a location in messages', () => {
  for (const [location, expected] of [
    ['https://user:secret@host:8443/a/b.gz', 'https://host:8443/a/b.gz'],
    ['https://secret@host/a', 'https://host/a'],
    ['https://:secret@host/a', 'https://host/a'],
    ['https://host/a?X-Amz-Signature=secret&b=1', 'https://host/a'],
    ['https://host/a#access_token=secret', 'https://host/a'],
    ['ws://user:secret@10.0.0.1:7070', 'ws://10.0.0.1:7070'],
    ['wss://user:secret@[::1]:7070/data/1?t=secret#secret', 'wss://[::1]:7070/data/1'],
    ['s3://AKIA:secret@bucket/key', 's3://bucket/key'],
    ['s3://bucket/a/b', 's3://bucket/a/b'],
    ['HTTPS://user:secret@host/a', 'https://host/a'],
    ['file:///a/b', 'file:///a/b'],
    // Text that is no URL.
    ['http://user:secret@host:99999999/a', 'http://host:99999999/a'],
    ['http://user:secret@/a?secret', 'http:///a'],
    ['http://user:se@cret@ho st/a#secret', 'http://ho st/a'],
    ['://user:secret@host', '://host'],
    // Paths.
    ['/data/a?b#c@d', '/data/a?b#c@d'],
    ['a@b/c', 'a@b/c'],
    ['', ''],
  ] as const)
    test(`${location || 'nothing'}: ${expected || 'nothing'}`, () => assert.equal(nameLocation(location), expected));

  test('a URL object has the same name, and keeps its login', () => {
    const url = new URL('https://user:secret@host/a?b');
    assert.equal(nameLocation(url), 'https://host/a');
    assert.equal(url.password, 'secret');
  });

  test('no part of a login, query or fragment is in it, for any of them', () => {
    const word = fc.stringMatching(/^[a-zA-Z0-9_.~%-]{1,12}$/u).map((text) => `SECRET${text.replaceAll('%', '%25')}`);
    fc.assert(
      fc.property(
        fc.constantFrom('http', 'https', 'ws', 'wss', 's3', 'exotic'),
        word,
        word,
        word,
        word,
        (scheme, user, password, query, fragment) => {
          const named = nameLocation(`${scheme}://${user}:${password}@host:80/path?${query}#${fragment}`);
          assert.ok(!named.includes('SECRET'), named);
          assert.ok(named.includes('host') && named.includes('/path'), named);
        },
      ),
    );
  });

  test('any text has a name', () => {
    fc.assert(fc.property(fc.string(), (text) => typeof nameLocation(text) === 'string'));
  });
});

describe('a login in a URL', () => {
  test('is seen', () => {
    assert.ok(hasLogin('https://user@host'));
    assert.ok(hasLogin('ws://:secret@host'));
    assert.ok(!hasLogin('https://host/a@b'));
    assert.ok(!hasLogin('no url'));
  });

  for (const location of [
    'ftp://user:secret@host/a',
    's3://AKIA:secret@Bucket!/key',
    'http://user:secret@ho st/a',
    'file://user:secret@host/a',
  ])
    test(`is not in the error for ${location}`, () => {
      assert.throws(
        () => openStorage(location),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'CONFIG_INVALID');
          assert.ok(!error.message.includes('secret'), error.message);
          return true;
        },
      );
    });
});

test('a path and a file: URL are local, any other URL is not', () => {
  assert.equal(localPathOf('a/b'), 'a/b');
  assert.equal(localPathOf('file:///a/b'), '/a/b');
  assert.equal(localPathOf('s3://a/b'), undefined);
  assert.ok(isLocalLocation('C:/a'));
  assert.equal(schemeOf('HTTPS://a'), 'https');
});
