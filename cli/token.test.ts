import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { givenToken } from './token.ts';

const TOKEN = '0123456789abcdef';

function setToken(t: TestContext, value: string): void {
  const before = process.env['EXMIX_TOKEN'];
  process.env['EXMIX_TOKEN'] = value;
  t.after(() => {
    if (before === undefined) delete process.env['EXMIX_TOKEN'];
    else process.env['EXMIX_TOKEN'] = before;
  });
}

describe('the token', () => {
  test('of the environment is used without the white space around it', async (t) => {
    setToken(t, ` ${TOKEN}\r\n`);
    assert.equal(await givenToken(undefined), TOKEN);
  });

  test('is not given if the variable is empty', async (t) => {
    setToken(t, '');
    assert.equal(await givenToken(undefined), undefined);
  });

  for (const [what, value, message] of [
    ['a space in it', `01234567 89abcdef`, /^\$EXMIX_TOKEN: expected a token .*, found U\+0020 as character 9$/u],
    ['a typographic quote around it', `\u201c${TOKEN}\u201d`, /found U\+201C as character 1$/u],
    ['a character beyond 16 bits', `${TOKEN}\u{1f511}`, /found U\+1F511 as character 17$/u],
    ['too few characters', 'short', /at least 16 visible ASCII characters, got 5$/u],
    ['only white space', '  ', /at least 16 visible ASCII characters, got 0$/u],
  ] as const)
    test(`with ${what} is refused, and the message does not show it`, async (t) => {
      setToken(t, value);
      await assert.rejects(givenToken(undefined), (error: Error & { code: string }) => {
        assert.equal(error.code, 'CONFIG_INVALID');
        assert.match(error.message, message);
        assert.ok(!error.message.includes(TOKEN));
        return true;
      });
    });

  test('of a file is named by its file', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'exmix-token-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const file = join(folder, 'token');
    await writeFile(file, `\ufeff${TOKEN}\n`);
    assert.equal(await givenToken(file), TOKEN, 'a byte order mark is white space');
    await writeFile(file, '');
    await assert.rejects(givenToken(file), {
      code: 'CONFIG_INVALID',
      message: /^the token file .*token: expected .*, got 0$/u,
    });
    await assert.rejects(givenToken(join(folder, 'nowhere')), { code: 'PATH_UNUSABLE' });
  });
});
