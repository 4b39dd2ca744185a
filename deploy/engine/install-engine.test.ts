/** Whole installations with tiny wheels, fake pip and compiler scripts, and a self-test with a given result. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { TrainerError, type ErrorCode } from '../../shared/errors.ts';
import { enginesFolder, findInstalledEngine, listInstalledEngines } from '../../shared/installed-engine.ts';
import {
  FAKE_COMPILER,
  fakeComponents,
  fakePip,
  fakeProbe,
  MACHINE,
  TENSORFLOW_FILES,
  VERSION,
  writeFakeWheel,
  writeTools,
  type FakeWheelInit,
} from './fake-wheel.fixture.ts';
import { installEngine, type InstallComponents, type InstallInit } from './install-engine.ts';
import { removeEngine } from './remove-engine.ts';

const EXMIX = join(import.meta.dirname, '../../cli/exmix.mjs');
const root = mkdtempSync(join(tmpdir(), 'exmix-install-'));
after(() => rmSync(root, { recursive: true, force: true }));
let numHomes = 0;

/** Each test has its own home, and its own PATH with these tools only. */
function setUp(tools: Readonly<Record<string, string>> = { 'g++': FAKE_COMPILER }) {
  const folder = join(root, String(numHomes++));
  const home = join(folder, 'home');
  const environment = writeTools(join(folder, 'bin'), tools);
  const wheels = join(folder, 'wheels');
  const install = (init: Partial<InstallInit> = {}, change: Partial<InstallComponents> = {}) =>
    installEngine({ home, flavour: 'cpu', version: VERSION, wheels: [], ...init }, fakeComponents(environment, change));
  return {
    folder,
    home,
    environment,
    wheel: (init?: FakeWheelInit) => writeFakeWheel(wheels, init),
    install,
    /** Names in engines/, including partial folders. */
    left: () => (existsSync(enginesFolder(home)) ? readdirSync(enginesFolder(home)) : []),
  };
}

function failsWith(code: ErrorCode, ...patterns: RegExp[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof TrainerError, String(error));
    assert.equal(error.code, code, error.message);
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  };
}

test('a wheel becomes an engine with libraries, C headers and both addons only', async () => {
  const { home, wheel, install, left } = setUp();
  const { engine, selfTest } = await install({ wheels: [wheel()] });
  assert.deepEqual(left(), [engine.id]);
  assert.match(engine.id, /^cpu-2\.21\.0-[0-9a-f]{12}$/u);
  assert.equal(selfTest?.worstError, 1e-7);
  assert.deepEqual(
    engine.manifest.files.map(({ path }) => path),
    [
      'deps/include/tensorflow/c/c_api.h',
      'deps/lib/libtensorflow_cc.so.2',
      'deps/lib/libtensorflow_framework.so.2',
      'lib/napi-v8/session_addon.node',
      'lib/napi-v8/tfjs_binding.node',
    ],
  );
  assert.equal(
    readFileSync(join(engine.folder, 'deps/lib/libtensorflow_cc.so.2'), 'utf8'),
    TENSORFLOW_FILES['tensorflow/libtensorflow_cc.so.2'],
  );
  assert.deepEqual((await listInstalledEngines(home, 'hashes'))[0]?.problems, []);
  assert.equal((await findInstalledEngine(home))?.addonPath, engine.addonPath);
});

test('the same wheel under another name gives the same engine without a build', async () => {
  const { wheel, install, home, folder } = setUp();
  const first = await install({ wheels: [wheel()] });
  const beforeMs = statSync(first.engine.addonPath).mtimeMs;
  const renamed = join(folder, 'renamed.whl');
  writeFileSync(renamed, readFileSync(wheel()));
  const second = await install({ wheels: [renamed] });
  assert.equal(second.selfTest, undefined);
  assert.equal(second.engine.id, first.engine.id);
  assert.equal(statSync(second.engine.addonPath).mtimeMs, beforeMs);
  assert.equal((await listInstalledEngines(home)).length, 1);
});

test('pip gets platform, Python and version; a second installation needs neither pip nor compiler', async () => {
  const source = join(root, 'index');
  writeFakeWheel(source);
  const { install, environment, folder, left } = setUp({
    'g++': FAKE_COMPILER,
    python3: fakePip(`echo "$all" > "$ARGUMENTS"; /bin/cp "${source}"/*.whl "$dest"`),
  });
  environment['ARGUMENTS'] = join(folder, 'arguments');
  const first = await install();
  const pipArguments = readFileSync(join(folder, 'arguments'), 'utf8');
  assert.match(pipArguments, /^download /u);
  const name = process.arch === 'x64' ? 'tensorflow-cpu' : 'tensorflow';
  for (const part of ['--no-deps', '--python-version 3.12', `manylinux_2_27_${MACHINE}`, `${name}==2.21.0`])
    assert.ok(pipArguments.includes(part), `${part} in ${pipArguments}`);
  assert.deepEqual(left(), [first.engine.id]);

  const again = await install({}, { environment: { PATH: join(folder, 'nowhere') } });
  assert.equal(again.selfTest, undefined);
  assert.equal(again.engine.id, first.engine.id);
});

test('an engine with addons of another exmix is the source of the libraries: no download, the same inodes', async () => {
  const { wheel, install, home, left } = setUp();
  const { engine } = await install({ wheels: [wheel()] });
  const oldId = 'cpu-2.21.0-000000000000';
  const old = { ...engine.manifest, id: oldId, recipe: '0'.repeat(64) };
  writeFileSync(join(engine.folder, 'engine.json'), JSON.stringify(old));
  renameSync(engine.folder, join(enginesFolder(home), oldId));

  const { engine: fresh, selfTest } = await install();
  assert.notEqual(selfTest, undefined);
  assert.equal(fresh.id, engine.id);
  assert.deepEqual(left().sort(), [oldId, engine.id].sort());
  const library = 'deps/lib/libtensorflow_cc.so.2';
  assert.equal(statSync(join(fresh.folder, library)).ino, statSync(join(enginesFolder(home), oldId, library)).ino);
});

const BAD_WHEELS: readonly [string, (s: ReturnType<typeof setUp>) => string, Partial<InstallInit>, RegExp[]][] = [
  [
    'a truncated wheel',
    ({ wheel }) => {
      const path = wheel();
      truncateSync(path, Math.floor(statSync(path).size / 2));
      return path;
    },
    {},
    [/not a whole zip file/u, /download it again/u],
  ],
  [
    'a wheel with a flipped byte inside a library',
    ({ wheel }) => {
      const path = wheel();
      const bytes = readFileSync(path);
      bytes[120] = bytes[120]! ^ 0xff;
      writeFileSync(path, bytes);
      return path;
    },
    {},
    [/libtensorflow_cc\.so\.2/u],
  ],
  [
    'a library that differs from RECORD',
    ({ wheel }) => wheel({ wrongHashOf: 'tensorflow/libtensorflow_framework.so.2' }),
    {},
    [/libtensorflow_framework\.so\.2: expected 13 B with SHA-256 [0-9a-f]{12}… by its RECORD, got 13 B/u],
  ],
  [
    'a wheel for another machine',
    ({ wheel }) => wheel({ tag: 'cp312-cp312-manylinux_2_27_s390x' }),
    {},
    [/expected a wheel for Linux on (?:x86_64|aarch64), got one for cp312-cp312-manylinux_2_27_s390x/u],
  ],
  [
    'a wheel for another system',
    ({ wheel }) => wheel({ tag: 'cp312-cp312-macosx_12_0_arm64' }),
    {},
    [/expected a wheel for Linux/u],
  ],
  [
    'a wheel for a newer C library',
    ({ wheel }) => wheel({ tag: `cp312-cp312-manylinux_2_99_${MACHINE}` }),
    {},
    [/expected glibc 2\.99, got glibc 2\.36 on this machine/u],
  ],
  [
    'a wheel of another package',
    ({ wheel }) => wheel({ name: 'torch', version: '2.11.0' }),
    {},
    [/expected one wheel of tensorflow or tensorflow-cpu, got 0 \(given: torch 2\.11\.0\)/u],
  ],
  [
    'a wheel of another version',
    ({ wheel }) => wheel({ version: '2.15.0' }),
    {},
    [/expected TensorFlow 2\.21\.0, got 2\.15\.0/u, /--version 2\.15\.0/u],
  ],
  [
    'a TensorFlow without the libraries',
    ({ wheel }) => wheel({ files: { 'tensorflow/__init__.py': '' } }),
    {},
    [/found no deps\/lib\/libtensorflow_cc\.so\.2/u],
  ],
  [
    'a text file',
    ({ folder }) => {
      writeFileSync(join(folder, 'a.whl'), 'not a zip');
      return join(folder, 'a.whl');
    },
    {},
    [/not a whole zip file/u],
  ],
];
for (const [what, make, init, patterns] of BAD_WHEELS)
  test(`rejects ${what}, and leaves nothing behind`, async () => {
    const context = setUp();
    await assert.rejects(
      context.install({ ...init, wheels: [make(context)] }),
      failsWith('WHEEL_INVALID', ...patterns),
    );
    assert.deepEqual(context.left(), []);
  });

test('rejects a missing wheel', async () => {
  const { install } = setUp();
  await assert.rejects(
    install({ wheels: [join(root, 'none.whl')] }),
    failsWith('PATH_UNUSABLE', /none\.whl \(ENOENT\)/u),
  );
});

test(
  'flavour cuda needs every wheel that the metadata of TensorFlow lists',
  { skip: process.arch !== 'x64' },
  async () => {
    const { install, wheel, left } = setUp();
    const tensorflow = wheel({
      name: 'tensorflow',
      requires: [
        'numpy>=1',
        'nvidia-cublas-cu12<13.0,>=12.5; extra == "and-cuda"',
        'nvidia-cudnn-cu12>=9.3; extra == "and-cuda"',
      ],
    });
    const cublas = wheel({
      name: 'nvidia-cublas-cu12',
      version: '12.9',
      files: { 'nvidia/cublas/lib/libcublas.so.12': 'x' },
    });
    await assert.rejects(
      install({ flavour: 'auto', wheels: [tensorflow, cublas] }),
      failsWith('WHEEL_INVALID', /nvidia-cudnn-cu12>=9\.3/u, /pip download/u),
    );
    assert.deepEqual(left(), []);
    const cudnn = wheel({
      name: 'nvidia-cudnn-cu12',
      version: '9.3',
      files: { 'nvidia/cudnn/lib/libcudnn.so.9': 'y' },
    });
    const { engine, selfTest } = await install({ flavour: 'auto', wheels: [tensorflow, cublas, cudnn] });
    assert.equal(engine.flavour, 'cuda');
    assert.equal(selfTest?.isUsingGpu, false);
    for (const path of ['deps/nvidia/cublas/lib/libcublas.so.12', 'deps/nvidia/cudnn/lib/libcudnn.so.9'])
      assert.ok(existsSync(join(engine.folder, path)), path);
  },
);

test('one error lists all that is missing, and the packages that contain it', async () => {
  const { install, left } = setUp({});
  await assert.rejects(
    install(),
    failsWith(
      'PREREQUISITE_MISSING',
      /pip, to download/u,
      /a C\+\+ compiler/u,
      /apt-get install python3-pip g\+\+/u,
      /--wheel FILE/u,
    ),
  );
  assert.deepEqual(left(), []);
});

test('a given wheel needs a compiler but no pip', async () => {
  const { install, wheel } = setUp({});
  await assert.rejects(install({ wheels: [wheel()] }), (error: unknown) => {
    failsWith('PREREQUISITE_MISSING', /apt-get install g\+\+/u)(error);
    assert.doesNotMatch(String(error), /pip/u);
    return true;
  });
});

test('a Python without pip is not used as pip', async () => {
  const { install } = setUp({ 'g++': FAKE_COMPILER, python3: 'echo "No module named pip" >&2; exit 1' });
  await assert.rejects(install(), failsWith('PREREQUISITE_MISSING', /python3 -m pip: No module named pip/u));
});

test('if pip has no network, the error says so, with the output of pip, and names --wheel', async () => {
  const { install, left } = setUp({
    'g++': FAKE_COMPILER,
    pip3: fakePip(`
echo "WARNING: Retrying after connection broken by 'NewConnectionError: Temporary failure in name resolution'" >&2
echo 'ERROR: No matching distribution found for tensorflow-cpu==2.21.0' >&2
exit 1`),
  });
  await assert.rejects(
    install(),
    failsWith('ENGINE_INSTALL_FAILED', /index was not reached/u, /--wheel FILE/u, /ERROR: No matching distribution/u),
  );
  assert.deepEqual(left(), []);
});

test('a version that pip does not find is not reported as a network failure', async () => {
  const { install } = setUp({
    'g++': FAKE_COMPILER,
    pip: fakePip(
      "echo 'ERROR: No matching distribution found for tensorflow-cpu==9.9.9 (from versions: 2.21.0)' >&2; exit 1",
    ),
  });
  await assert.rejects(
    install({ version: '9.9.9' }),
    failsWith('ENGINE_INSTALL_FAILED', /Check the version/u, /from versions: 2\.21\.0/u),
  );
});

test('a full disk during pip fails with DISK_FULL', async () => {
  const { install, left } = setUp({
    'g++': FAKE_COMPILER,
    pip: fakePip("echo 'ERROR: Could not install: [Errno 28] No space left on device' >&2; exit 1"),
  });
  await assert.rejects(install(), failsWith('DISK_FULL', /no free space for the download/u));
  assert.deepEqual(left(), []);
});

test('missing disk space is reported before the download, and from the sizes in the wheel before it is unpacked', async () => {
  const { install, wheel, left } = setUp({ 'g++': FAKE_COMPILER, pip: fakePip('exit 1') });
  const free = (bytes: number) => ({ freeBytes: () => Promise.resolve(bytes) });
  await assert.rejects(
    install({}, free(2 ** 30)),
    failsWith('DISK_FULL', /expected 1\.5 GiB free to download and unpack the wheels, got 1\.0 GiB at .*EXMIX_HOME/u),
  );
  await assert.rejects(
    install({ wheels: [wheel()] }, free(1000)),
    failsWith('DISK_FULL', /expected 64\.1 MiB free to unpack the libraries, got 1000 B/u),
  );
  assert.deepEqual(left(), []);
});

const canMount = spawnSync('unshare', ['-m', 'true']).status === 0;
test(
  'a disk that fills up while a library is unpacked fails with DISK_FULL, and nothing is left',
  { skip: canMount ? false : 'needs the right to mount a small file system (unshare -m)' },
  () => {
    const { home, folder, wheel } = setUp();
    const path = wheel({ files: { ...TENSORFLOW_FILES, 'tensorflow/libtensorflow_cc.so.2': 'x'.repeat(2 ** 21) } });
    const script = `
      import { readdirSync } from 'node:fs';
      import { fakeComponents } from './deploy/engine/fake-wheel.fixture.ts';
      import { installEngine } from './deploy/engine/install-engine.ts';
      const components = fakeComponents({ PATH: ${JSON.stringify(join(folder, 'bin'))} });
      const init = { home: ${JSON.stringify(home)}, flavour: 'cpu', version: '2.21.0', wheels: [${JSON.stringify(path)}] };
      await installEngine(init, components).catch((error) => console.log(error.code, error.message));
      console.log('left', readdirSync(init.home + '/engines').length);`;
    mkdirSync(home);
    const mounted = 'mount -t tmpfs -o size=1m none "$0" && exec "$1" --import tsx --input-type=module -e "$2"';
    const args = ['-m', 'sh', '-c', mounted, home, process.execPath, script];
    const { stdout, stderr } = spawnSync('unshare', args, {
      cwd: join(import.meta.dirname, '../..'),
      encoding: 'utf8',
    });
    assert.match(stdout, /^DISK_FULL cannot write .*libtensorflow_cc\.so\.2: no free space \(ENOSPC\)/u, stderr);
    assert.match(stdout, /left 0\n$/u);
  },
);

test('a failing compiler: the error has its last output, and nothing is left', async () => {
  const { install, wheel, left } = setUp({
    'g++': `if [ "$1" = --version ]; then echo g++; exit 0; fi; echo 'fatal error: c_api.h: No such file' >&2; exit 1`,
  });
  await assert.rejects(
    install({ wheels: [wheel()] }),
    failsWith('ENGINE_INSTALL_FAILED', /could not build tfjs_binding\.node \(status 1\)/u, /fatal error/u),
  );
  assert.deepEqual(left(), []);
});

const BAD_PROBES: readonly [string, readonly string[], RegExp][] = [
  ['computes wrong values', fakeProbe({ version: VERSION, isUsingGpu: false, worstError: 0.5 }), /off by 0\.5/u],
  ['computes NaN', fakeProbe({ version: VERSION, isUsingGpu: false, worstError: null }), /off by NaN/u],
  [
    'is another version',
    fakeProbe({ version: '2.15.1', isUsingGpu: false, worstError: 0 }),
    /expected TensorFlow 2\.21\.0, the library is 2\.15\.1/u,
  ],
  [
    'crashes on an illegal instruction',
    ['/bin/sh', '-c', 'kill -ILL $$'],
    /signal SIGILL: this CPU lacks instructions.*AVX/u,
  ],
  [
    'cannot be loaded',
    ['/bin/sh', '-c', 'echo "libstdc++.so.6: GLIBCXX_3.4.99 not found" >&2; exit 1'],
    /GLIBCXX_3\.4\.99 not found/u,
  ],
  ['prints nothing', ['/bin/sh', '-c', ':'], /printed no result/u],
];
for (const [what, probe, pattern] of BAD_PROBES)
  test(`an engine that ${what} is not installed`, async () => {
    const { install, wheel, left } = setUp();
    await assert.rejects(install({ wheels: [wheel()] }, { probe }), failsWith('ENGINE_INSTALL_FAILED', pattern));
    assert.deepEqual(left(), []);
  });

test('aborted during pip: pip is killed, and nothing is left', async () => {
  const { install, left, folder, environment } = setUp({
    'g++': FAKE_COMPILER,
    pip: fakePip(`echo $$ > "$PID_FILE"; echo partial > "$dest/a.whl"; exec /bin/sleep 600`),
  });
  environment['PID_FILE'] = join(folder, 'pid');
  const interrupt = new AbortController();
  // Progress with bytes comes after pip began to write.
  const onProgress = (text: string) => {
    if (/[1-9]\S* B here/u.test(text)) interrupt.abort('SIGINT');
  };
  await assert.rejects(install({}, { signal: interrupt.signal, onProgress }), failsWith('ABORTED'));
  assert.deepEqual(left(), []);
  const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
  assert.throws(() => process.kill(pid, 0), /ESRCH/u);
});

test('killed in the middle: the next installation removes the partial folder and succeeds', async () => {
  const { install, left, folder, home, environment, wheel } = setUp({
    'g++': FAKE_COMPILER,
    python3: fakePip(`echo partial > "$dest/a.whl"; echo $$ > "$PID_FILE"; exec /bin/sleep 600`),
  });
  const child = spawn(process.execPath, [EXMIX, 'engine', 'install', '--flavour', 'cpu'], {
    env: { ...environment, EXMIX_HOME: home, PID_FILE: join(folder, 'pid') },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  mkdirSync(folder, { recursive: true });
  await until(() => existsSync(join(folder, 'pid')) && readFileSync(join(folder, 'pid'), 'utf8').endsWith('\n'));
  child.kill('SIGKILL');
  await once(child, 'close');
  process.kill(Number(readFileSync(join(folder, 'pid'), 'utf8')), 'SIGKILL'); // its pip has survived it
  assert.match(left().join(), /^\.partial-/u);
  assert.deepEqual(await listInstalledEngines(home), []);

  const { engine } = await install({ wheels: [wheel()] });
  assert.deepEqual(left(), [engine.id]);
});

test('a damaged engine is listed as damaged, not used, and replaced by the next installation', async () => {
  const { install, wheel, home, left } = setUp();
  const { engine } = await install({ wheels: [wheel()] });
  truncateSync(engine.addonPath, 1);
  const [listed] = await listInstalledEngines(home);
  assert.deepEqual(listed?.problems, ['lib/napi-v8/tfjs_binding.node: expected 6 B, got 1 B']);
  await assert.rejects(
    findInstalledEngine(home),
    failsWith('ENGINE_UNAVAILABLE', /expected 6 B, got 1 B/u, /exmix engine remove/u),
  );
  const again = await install({ wheels: [wheel()] });
  assert.notEqual(again.selfTest, undefined);
  assert.deepEqual(left(), [engine.id]);
  assert.deepEqual((await listInstalledEngines(home, 'hashes'))[0]?.problems, []);
});

test('two concurrent installations end with one whole engine', async () => {
  const { install, wheel, home, left } = setUp();
  const path = wheel();
  const [a, b] = await Promise.all([install({ wheels: [path] }), install({ wheels: [path] })]);
  assert.equal(a.engine.id, b.engine.id);
  assert.deepEqual(left(), [a.engine.id]);
  assert.deepEqual((await listInstalledEngines(home, 'hashes'))[0]?.problems, []);
});

test('remove deletes an engine; for an unknown id the error names the installed ones', async () => {
  const { install, wheel, home, left } = setUp();
  await assert.rejects(removeEngine(home, 'cpu-1'), failsWith('NAME_UNKNOWN', /none is installed/u));
  const { engine } = await install({ wheels: [wheel()] });
  const near = `${engine.id.slice(0, -1)}z`;
  await assert.rejects(
    removeEngine(home, near),
    failsWith('NAME_UNKNOWN', new RegExp(`did you mean ${engine.id}`, 'u')),
  );
  const bytes = await removeEngine(home, engine.id);
  assert.equal(
    bytes,
    engine.manifest.files.reduce((sum, file) => sum + file.bytes, 0),
  );
  assert.deepEqual(left(), []);
});

test('other machines are rejected before anything is written', async () => {
  const { install, home } = setUp();
  const refuse = (change: object, pattern: RegExp) =>
    assert.rejects(
      install({}, { host: { platform: 'linux', arch: 'x64', glibcMinor: 36, hasNvidiaDriver: false, ...change } }),
      failsWith('ENGINE_UNAVAILABLE', pattern),
    );
  await refuse({ platform: 'darwin', glibcMinor: undefined }, /this is darwin on x64; use --engine wasm/u);
  await refuse({ glibcMinor: undefined }, /without glibc/u);
  await refuse({ arch: 'riscv64' }, /riscv64/u);
  assert.ok(!existsSync(home));
});

/** Resolves when the condition holds. Polls it in every turn of the event loop. */
async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, 'the condition does not hold after 30 s');
    await new Promise((resolve) => setImmediate(resolve));
  }
}
