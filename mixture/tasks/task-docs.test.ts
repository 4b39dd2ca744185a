import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { EXMIX_NAMES } from './exmix/exmix.ts';
import { renderTaskDocs, TASK_DOCS_FILE } from './write-task-docs.ts';

test('docs/tasks.md matches the table; write it with: node --import tsx mixture/tasks/write-task-docs.ts', () => {
  assert.equal(readFileSync(TASK_DOCS_FILE, 'utf8'), renderTaskDocs());
});

test('docs/tasks.md lists each task with its size, templates and notes', () => {
  const rows = readFileSync(TASK_DOCS_FILE, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.split('|')[1]!.trim().replaceAll('\\', ''));
  for (const name of EXMIX_NAMES) assert.ok(rows.filter((cell) => cell === name).length >= 3, name);
});
