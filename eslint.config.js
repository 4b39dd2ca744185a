import eslint from '@eslint/js';
import tseslint from 'typescript-eslint';

const PRINT = 'print through shared/standard-streams.ts: an error of the stream must not end a run';

/** Writes to standard output and error that are not guarded. */
const BARE_WRITES = [
  `MemberExpression[object.name='process'][property.name=/^std(out|err)$/]`,
  `MemberExpression[object.name='process'] > Literal.property[value=/^std(out|err)$/]`,
  `VariableDeclarator[init.name='process'] > ObjectPattern > Property[key.name=/^std(out|err)$/]`,
  `ImportDeclaration[source.value=/^(node:)?(process|console)$/]`,
  ...['callee.name', 'callee.property.name'].flatMap((callee) =>
    [1, 2].map((fd) => `CallExpression[${callee}=/^write(Sync)?$/][arguments.0.value=${fd}]`),
  ),
].map((selector) => ({ selector, message: PRINT }));

export default tseslint.config(
  { ignores: ['node_modules/', 'dist/', 'runs/', 'golden/', 'deploy/demo/data/', 'coverage/', '**/*.cjs', '**/*.mjs'] },
  eslint.configs.recommended,
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Numbers read well in messages: `expected 4 B, got 3 B`.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // Typed arrays are indexed inside proven bounds all over the numeric code; `!` there is the honest spelling.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/prefer-promise-reject-errors': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      'no-console': 'error',
      'no-restricted-syntax': ['error', ...BARE_WRITES],
    },
  },
  {
    // Not part of the product, or run by tests only.
    files: ['shared/standard-streams.ts', '**/*.test.ts', '**/*.fixture.ts', 'bench/**', 'examples/**', 'e2e/**'],
    rules: { 'no-restricted-syntax': 'off' },
  },
  {
    // node:test's describe and test return promises that its runner awaits by itself.
    files: ['**/*.test.ts', 'shared/transport/compliance.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            {
              from: 'package',
              package: 'node:test',
              name: ['test', 'it', 'describe', 'suite', 'before', 'after', 'beforeEach', 'afterEach'],
            },
          ],
        },
      ],
    },
  },
  { files: ['*.js'], extends: [tseslint.configs.disableTypeChecked] },
  {
    files: ['bench/**', 'deploy/demo/build/**', 'e2e/simulation/storm.ts', 'e2e/golden/run-golden.ts'],
    rules: { 'no-console': 'off' },
  },
);
