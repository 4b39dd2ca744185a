import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { parseDecodingSettings } from '../../evaluation/decoding/settings.ts';
import { decodeTokenRows } from '../../shared/protocol/token-rows.ts';
import { windowsOf } from './input-windows.ts';
import { WindowPlan, type WindowPlanInit } from './window-plan.ts';

const greedy = parseDecodingSettings({ method: 'greedy', maxNewTokens: 8 });
/** A token for each character; the text of ids is their list. */
const tokenizer: WindowPlanInit['tokenizer'] = {
  eosId: 1,
  encode: (text) => Array.from(text, (character) => character.charCodeAt(0)),
  decode: (ids) => Array.from(ids).join(' '),
};

async function* streamOf<T>(values: Iterable<T>): AsyncGenerator<T> {
  for (const value of values) yield await Promise.resolve(value);
}

interface Setup extends Partial<WindowPlanInit> {
  readonly texts: Iterable<string>;
  readonly maxTexts?: number;
}

function createPlan({ texts, maxTexts, ...init }: Setup): { readonly plan: WindowPlan; readonly lines: string[] } {
  const lines: string[] = [];
  const plan = new WindowPlan({
    windows: windowsOf(streamOf(texts), maxTexts === undefined ? {} : { maxTexts }),
    earlier: streamOf([]),
    ...{ tokenizer, decoding: greedy, batchTokens: 64, maxInputTokens: 32, trainedTokens: undefined },
    onEngine: () => Promise.resolve(),
    write: (written) => {
      lines.push(...written);
      return Promise.resolve();
    },
    onWriteFailed: (error) => {
      throw error;
    },
    signal: new AbortController().signal,
    ...init,
  });
  return { plan, lines };
}

/** The output of an example is its number in the input and its tokens. */
async function compute(plan: WindowPlan, batch: number): Promise<void> {
  const work = plan.work(batch);
  assert.ok(work.kind === 'decode');
  const rows = decodeTokenRows(work.inputs);
  await plan.add(batch, { kind: 'decode', outputs: work.examples.map((example, at) => [{ ids: [example, ...rows[at]!], score: -1 }]) }); // prettier-ignore
}

async function allBatches(plan: WindowPlan): Promise<number[]> {
  const all: number[] = [];
  for (let more = await plan.more(); more !== undefined; more = await plan.more()) all.push(...more);
  return all;
}

const expectedLine = (text: string, index: number): object => ({
  ...{ index, inputs: text, prediction: [index, ...tokenizer.encode(text), 1].join(' '), score: -1 },
});

describe('the plan of a generation', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 31 });

  test('whatever the order of the results, lines come in the order of the inputs, each once, and those that are there are not written again', async () => {
    const property = fc.asyncProperty(
      fc.array(text, { maxLength: 40 }),
      fc.integer({ min: 1, max: 9 }),
      fc.nat(),
      fc.infiniteStream(fc.nat()),
      async (texts, maxTexts, share, random) => {
        const numThere = texts.length === 0 ? 0 : share % (texts.length + 1);
        const { plan, lines } = createPlan({ texts, maxTexts, earlier: streamOf(texts.slice(0, numThere)) });
        const left = await allBatches(plan);
        while (left.length > 0) {
          const [batch] = left.splice(random.next().value! % left.length, 1);
          await compute(plan, batch!);
        }
        await plan.flushed();
        assert.deepEqual(lines.map((line) => JSON.parse(line) as object), texts.map(expectedLine).slice(numThere)); // prettier-ignore
        assert.deepEqual(plan.summary, { numGenerated: texts.length - numThere, numEarlier: numThere, numCut: 0, numLong: 0 }); // prettier-ignore
      },
    );
    await fc.assert(property, { numRuns: 60 });
  });

  test('batches are the same after a stop in the middle of a window', async () => {
    const texts = Array.from({ length: 20 }, (_, at) => 'a'.repeat(1 + (at % 17)));
    const workOf = async (numThere: number) => {
      const { plan } = createPlan({ texts, maxTexts: 8, earlier: streamOf(texts.slice(0, numThere)) });
      return (await allBatches(plan)).map((batch) => plan.work(batch));
    };
    const whole = await workOf(0);
    for (const numThere of [3, 8, 11]) {
      const rest = await workOf(numThere);
      assert.deepEqual(rest, whole.slice(-rest.length), `after ${numThere} lines`);
    }
  });

  test('a stream without end is read as far as the bound of open windows, until the oldest is written', async () => {
    let numRead = 0;
    function* endless(): Generator<string> {
      for (;;) yield `${numRead++}`;
    }
    const { plan, lines } = createPlan({ texts: endless(), maxTexts: 4 });
    const windows: (readonly number[])[] = [];
    for (let at = 0; at < 64; at++) windows.push((await plan.more())!);
    const next = plan.more();
    const isOpen = async (): Promise<boolean> => (await Promise.race([next, turn()])) !== undefined;
    assert.equal(await isOpen(), false);
    assert.equal(numRead, 256);
    for (const batch of windows[1]!) await compute(plan, batch);
    assert.deepEqual([lines, await isOpen()], [[], false], 'the second window waits for the first');
    for (const batch of windows[0]!) await compute(plan, batch);
    assert.ok(await next);
    assert.equal(lines.length, 8);
    assert.equal(numRead, 260);
  });

  test('long texts end a window by their bytes', async () => {
    const windows = [];
    for await (const { first, texts } of windowsOf(streamOf(['aaa', 'é', 'bb', 'c']), { maxBytes: 5 }))
      windows.push([first, ...texts]);
    assert.deepEqual(windows, [[0, 'aaa', 'é'], [2, 'bb', 'c']]); // prettier-ignore
  });

  test('inputs that are cut, and those that are longer than in training, are counted', async () => {
    const texts = ['a', 'b'.repeat(9), 'c'.repeat(40)];
    const { plan, lines } = createPlan({ texts, trainedTokens: 9 });
    for (const batch of await allBatches(plan)) await compute(plan, batch);
    await plan.flushed();
    assert.deepEqual(plan.summary, { numGenerated: 3, numEarlier: 0, numCut: 1, numLong: 2 });
    assert.deepEqual(lines.map((line) => (JSON.parse(line) as { cutTokens?: number }).cutTokens), [undefined, undefined, 9]); // prettier-ignore
  });

  test('an output of other inputs, or of more, is refused with its line', async () => {
    const refused = (texts: string[], earlier: string[]) =>
      assert.rejects(allBatches(createPlan({ texts, earlier: streamOf(earlier) }).plan), { code: 'CONFIG_INVALID', message: /of other inputs: its line 2 has "b"/u }); // prettier-ignore
    await refused(['a', 'x'], ['a', 'b']);
    await refused(['a'], ['a', 'b']);
  });

  test('a failed write is told once, and nothing is written after it', async () => {
    const failures: unknown[] = [];
    let numWrites = 0;
    const write = (): Promise<void> => {
      numWrites++;
      return Promise.reject(new Error('the disk is full'));
    };
    const { plan } = createPlan({ texts: ['a', 'b', 'c'], maxTexts: 1, write, onWriteFailed: (error) => failures.push(error) }); // prettier-ignore
    for (const batch of await allBatches(plan)) await compute(plan, batch);
    await plan.flushed();
    assert.deepEqual([failures.length, numWrites], [1, 1]);
  });
});

/** Resolves after more turns of the event loop than the reading of a window takes. */
async function turn(): Promise<undefined> {
  for (let count = 0; count < 32; count++) await setImmediate();
}
