import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { toStorageError } from './atomic-file.ts';
import { adviceOnHome, exmixHome } from './exmix-home.ts';

describe('the home of exmix', () => {
  test('is $EXMIX_HOME, else a folder below $HOME', () => {
    assert.equal(exmixHome({ EXMIX_HOME: '/data/exmix', HOME: '/home/a' }), '/data/exmix');
    assert.equal(exmixHome({ EXMIX_HOME: '', HOME: '/home/a' }), '/home/a/.cache/exmix');
  });

  for (const home of ['', '.', 'relative'])
    test(`is refused without one, and $EXMIX_HOME named: HOME=${JSON.stringify(home)}`, () => {
      assert.throws(() => exmixHome({ HOME: home }), {
        code: 'PATH_UNUSABLE',
        message: /^expected a home folder in \$HOME, found ".*"; set \$EXMIX_HOME to a folder/u,
      });
    });

  test('that cannot be used is named with its cure, another folder is not', () => {
    const environment = { HOME: '/home/a' };
    const failure = (code: string, path: string) =>
      toStorageError(Object.assign(new Error(code), { code }), 'create', path);
    for (const code of ['EACCES', 'EROFS', 'ENOTDIR'])
      assert.match(
        adviceOnHome(failure(code, '/home/a/.cache/exmix/prepared'), environment) ?? '',
        /set \$EXMIX_HOME/u,
      );
    assert.equal(adviceOnHome(failure('EACCES', '/runs/a'), environment), undefined);
    assert.equal(adviceOnHome(failure('ENOSPC', '/home/a/.cache/exmix/prepared'), environment), undefined);
  });
});
