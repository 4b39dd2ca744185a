import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseOpenFilesLimit } from './process-limits.ts';

const LIMITS = `Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            20000                524288               files     
Max locked memory         8388608              8388608              bytes     
`;

describe('/proc/self/limits', () => {
  test('the soft limit of open files', () => {
    assert.equal(parseOpenFilesLimit(LIMITS), 20_000);
    assert.equal(parseOpenFilesLimit(LIMITS.replace('20000     ', 'unlimited ')), Infinity);
    assert.equal(parseOpenFilesLimit(''), undefined);
  });
});
