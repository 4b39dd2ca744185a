/** One rule for each floor of a room: its folders import neither each other nor a higher floor. Type imports count. */
function floors(room, levels) {
  return levels.flatMap((folders, level) =>
    folders.map((folder) => {
      const others = levels
        .slice(level)
        .flat()
        .filter((other) => other !== folder);
      return {
        name: `${room}-${folder}-imports-lower-floors-only`,
        severity: 'error',
        from: { path: `^${room}/${folder}/`, pathNot: '\\.(test|fixture)\\.ts$' },
        to: { path: `^${room}/((${others.join('|')})/|[^/]+$)` },
      };
    }),
  );
}

/** The rooms and who may enter which (docs/architecture.md). @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...floors('coordinator', [
      ['run-folder', 'deal'],
      ['journal'],
      ['ledger', 'membership'],
      ['step', 'resume', 'evaluation'],
      ['checkpoint', 'steering'],
      ['validation'],
      ['health'],
      ['generation'],
    ]),
    ...floors('worker', [
      ['arena', 'model', 'machine'],
      ['mesh', 'engine', 'feed'],
      ['collective', 'engine-choice', 'checkpoint', 'state'],
      ['network'],
      ['compute', 'inference'],
    ]),
    {
      name: 'engine-below-its-native-engine',
      severity: 'error',
      from: { path: '^worker/engine/[^/]+$', pathNot: '\\.(test|fixture)\\.ts$' },
      to: { path: '^worker/engine/native/' },
    },
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } }, // type imports count
    {
      name: 'coordinator-not-worker',
      severity: 'error',
      from: { path: '^coordinator/' },
      to: { path: '^(worker|cli)/' },
    },
    {
      name: 'worker-not-coordinator',
      severity: 'error',
      from: { path: '^worker/' },
      to: { path: '^(coordinator|cli)/' },
    },
    {
      name: 'mixture-is-below',
      severity: 'error',
      from: { path: '^mixture/' },
      to: { path: '^(worker|coordinator|cli)/' },
    },
    {
      name: 'evaluation-judges-alone',
      severity: 'error',
      from: { path: '^evaluation/', pathNot: '\\.test\\.ts$' },
      to: { path: '^(worker|coordinator|cli|mixture|api)/' },
    },
    {
      name: 'shared-is-the-ground',
      severity: 'error',
      from: { path: '^shared/' },
      to: { path: '^(worker|coordinator|cli|mixture|evaluation)/' },
    },
    {
      name: 'api-is-the-roof',
      severity: 'error',
      from: { pathNot: '^(api|examples)/' },
      to: { path: '^api/' },
    },
    {
      name: 'tfjs-only-in-compute',
      severity: 'error',
      from: { pathNot: '^(worker/(engine|model)/|bench/)' },
      to: { path: 'node_modules/@tensorflow/' },
    },
    {
      name: 'ws-only-in-the-transport',
      severity: 'error',
      from: { pathNot: '^(shared/transport/|e2e/|bench/)' },
      to: { path: 'node_modules/ws/' },
    },
    {
      name: 'yaml-is-parsed-in-one-place',
      severity: 'error',
      from: {
        pathNot:
          '(^shared/parse-yaml\\.ts|^coordinator/resume/open-run\\.ts|^cli/commands/finetune\\.ts|\\.(test|fixture)\\.ts)$',
      }, // open-run.ts and finetune.ts write YAML
      to: { path: 'node_modules/yaml/' },
    },
    {
      name: 'workers-run-no-task-modules', // their config comes over the network
      severity: 'error',
      from: { path: '^worker/', pathNot: '\\.(test|fixture)\\.ts$' },
      to: { path: '^mixture/tasks/task-module\\.ts$', reachable: true },
    },
    {
      name: 'no-tests-in-product',
      severity: 'error',
      from: { pathNot: '\\.test\\.ts$' },
      to: { path: '\\.test\\.ts$' },
    },
    {
      name: 'made-up-rows-only-where-they-are-printed',
      severity: 'error',
      from: { pathNot: '(^cli/print-exmix-tasks|\\.fixture|\\.test)\\.ts$' },
      to: { path: '^mixture/tasks/exmix/made-up-rows\\.ts$' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(node_modules|runs|golden)' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.mts', '.js', '.mjs', '.cjs', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
    },
  },
};
