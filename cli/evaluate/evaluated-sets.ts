/** The evaluation sets that a command means: of the run's mixture, or of one that the command names; made where they are missing. */
import { resolve } from 'node:path';
import type { TaskEvaluation } from '../../shared/task-evaluation.ts';
import { prepareEvaluationSets } from '../../mixture/evaluation-sets/prepare-evaluation-sets.ts';
import { listEvaluationSets, readEvaluationSet } from '../../mixture/evaluation-sets/read-evaluation-sets.ts';
import type { EvaluationSetInfo, SetExample } from '../../mixture/evaluation-sets/set-record.ts';
import { leakedExamples, readOverlap } from '../../mixture/overlap/overlap-record.ts';
import { allTasks } from '../../mixture/tasks/load-mixture.ts';
import { createNameSelection } from '../../mixture/tasks/name-patterns.ts';
import type { FeatureLengths, Mixture, SplitName } from '../../mixture/tasks/task.ts';
import { loadTokenizer, type Tokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { TrainerError } from '../../shared/errors.ts';
import { isLocalLocation } from '../../shared/storage/location.ts';
import { chooseMixture } from '../mixture-options.ts';
import { describeAbsent, describeSet } from '../prepare-view.ts';
import { loadRunMixture } from '../run-mixture.ts';
import { openTokenizer, type EvaluatedModel } from './evaluated-model.ts';

/** Larger files of examples are not hashed before they are read. */
const HASH_UP_TO_BYTES = 64 * 1024 * 1024;

export interface ChooseSetsInit {
  readonly model: EvaluatedModel;
  /** demo, exmix or a mixture.yaml; default: that of the run. */
  readonly mixture: string | undefined;
  /** Names and globs; default: all tasks. */
  readonly tasks: readonly string[] | undefined;
  readonly given: string | undefined;
  readonly split: SplitName;
  readonly maxExamples: number | undefined;
  readonly inputsLength: number | undefined;
  readonly targetsLength: number | undefined;
  /** spiece.model or tokenizer.json; default: that of the model's folder. */
  readonly tokenizer: string | undefined;
  readonly trustModules: boolean;
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface ChosenSet {
  readonly info: EvaluationSetInfo;
  readonly examples: readonly SetExample[];
  /** How its outputs are judged; undefined: it is scored alone. */
  readonly evaluation: TaskEvaluation | undefined;
  /** Numbers of the examples that train has too; undefined: `exmix tasks overlap` did not compare the set. */
  readonly leaked: ReadonlySet<number> | undefined;
}

interface SetsPlace {
  readonly mixture: Mixture;
  readonly prepared: string;
  readonly featureLengths: FeatureLengths;
}

/**
 * @throws CONFIG_INVALID without a mixture, for another tokenizer than the model's, and where no set is left; NAME_UNKNOWN for --tasks; what
 *   prepareEvaluationSets throws
 */
export async function chooseSets(
  init: ChooseSetsInit,
): Promise<{ readonly sets: readonly ChosenSet[]; readonly tokenizer: Tokenizer }> {
  const { model, tasks, split, maxExamples, onLine, signal } = init;
  const { tokenizer, file: tokenizerFile } = await openTokenizer(model, init.tokenizer);
  const { mixture, prepared, featureLengths } = placeOf(init, tokenizerFile);
  await checkTokenizer(mixture, tokenizer, tokenizerFile);
  const all = allTasks(mixture);
  const names = all.map(({ name }) => name);
  const isChosen = tasks === undefined ? () => true : createNameSelection(tasks, names);
  const infos = isLocalLocation(prepared)
    ? await prepareSets({ mixture, prepared, featureLengths }, names.filter(isChosen), init)
    : await listEvaluationSets(prepared, { signal });
  const chosen = infos.filter((info) => info.split === split && isChosen(info.task));
  if (chosen.length === 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `${mixture.name}: expected ${split} sets of ${tasks?.join(', ') ?? 'its tasks'}, found none; ` +
        'exmix tasks list shows the splits of each task, --split names another one',
    );
  const judged = new Map(mixture.tasks.map(({ name, evaluation }) => [name, evaluation]));
  const sets: ChosenSet[] = [];
  for (const info of chosen) {
    const found = await readEvaluationSet(prepared, info, { signal });
    const examples = maxExamples === undefined ? found : found.slice(0, maxExamples);
    const evaluation = judged.get(info.task);
    const isJudged = evaluation !== undefined && evaluation.metrics.length > 0;
    const known = isJudged ? { postprocess: evaluation.postprocess, metrics: evaluation.metrics } : undefined;
    const overlap = await readOverlap(prepared, info, { signal });
    sets.push({ info, examples, evaluation: known, leaked: overlap && leakedExamples(overlap) });
  }
  warnOfLongInputs(sets, model, onLine);
  return { sets, tokenizer };
}

function placeOf(
  { model, mixture: named, given, inputsLength, targetsLength, trustModules, tasks }: ChooseSetsInit,
  tokenizerFile: string,
): SetsPlace {
  const { trained } = model;
  if (named !== undefined) {
    const lengths = trained?.config.featureLengths;
    const chosen = chooseMixture({
      ...{ mixture: named, given, tokenizer: resolve(tokenizerFile) },
      ...(tasks === undefined ? {} : { tasks: [...tasks] }),
      'inputs-length': inputsLength ?? lengths?.inputs,
      'targets-length': targetsLength ?? lengths?.targets,
    });
    return { ...chosen, prepared: chosen.folder };
  }
  if (trained === undefined)
    throw new TrainerError(
      'CONFIG_INVALID',
      `${model.folder} is no run or checkpoint of exmix, so nothing says on which tasks it is to be judged; give --mixture demo, exmix or FILE`,
    );
  const { config, file } = trained;
  const featureLengths = {
    inputs: inputsLength ?? config.featureLengths.inputs,
    targets: targetsLength ?? config.featureLengths.targets,
  };
  const settings = given === undefined ? config.mixture : { ...config.mixture, given: resolve(given) };
  const wanted = { ...config, featureLengths, mixture: settings };
  return { ...loadRunMixture(wanted, trustModules ? undefined : file), featureLengths };
}

async function checkTokenizer({ tokenizerPath, name }: Mixture, expected: Tokenizer, file: string): Promise<void> {
  const { hash } = await loadTokenizer(tokenizerPath);
  if (hash === expected.hash) return;
  throw new TrainerError(
    'CONFIG_INVALID',
    `mixture ${name} is tokenized by ${tokenizerPath}, which is not the model's tokenizer ${file}; give the mixture by --mixture to have it tokenized by the model's`,
  );
}

/** A set that cannot be made is an error where it was asked for by name, and a line where all tasks are meant. */
async function prepareSets(
  { mixture, prepared, featureLengths }: SetsPlace,
  names: readonly string[],
  { tasks, split, onLine, signal }: ChooseSetsInit,
): Promise<readonly EvaluationSetInfo[]> {
  try {
    return await prepareEvaluationSets({
      ...{ mixture, featureLengths, outDir: prepared, splits: [split], signal },
      pinned: true,
      hashUpToBytes: HASH_UP_TO_BYTES,
      onSet: (set) => {
        if (set.outcome === 'prepared') onLine(describeSet(set));
      },
      onAbsent: (set) => {
        if (names.includes(set.task)) onLine(describeAbsent(set));
      },
      onNote: onLine,
    });
  } catch (thrown) {
    if (!(thrown instanceof TrainerError) || tasks !== undefined) throw thrown;
    if (['DISK_FULL', 'PATH_UNUSABLE', 'ABORTED', 'TOKENIZER_INVALID'].includes(thrown.code)) throw thrown;
    onLine(`some evaluation sets were not made: ${thrown.message}`);
    return listEvaluationSets(prepared, { signal });
  }
}

function warnOfLongInputs(
  sets: readonly ChosenSet[],
  { trained }: EvaluatedModel,
  onLine: (line: string) => void,
): void {
  if (trained === undefined) return;
  const { inputs } = trained.config.featureLengths;
  for (const { info, examples } of sets) {
    const numLong = examples.filter(({ inputIds }) => inputIds.length > inputs).length;
    if (numLong > 0)
      onLine(
        `warning: ${numLong} inputs of ${info.task}/${info.name} are longer than the ${inputs} tokens that the model was trained with`,
      );
  }
}
