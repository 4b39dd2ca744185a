/** From the command line of `exmix train --chaos …` to that of the run it supervises. Pure. */

/** Flags of chaos with a value, and those without; as yargs reads them. */
const WITH_VALUE = ['--chaos', '--chaos-seed', '--chaosSeed'];
const WITHOUT_VALUE = ['--chaos-verify', '--chaosVerify', '--no-chaos-verify', '--no-chaosVerify'];
/** Given anew for each of the runs. */
const RUN_DIR = ['--run-dir', '--runDir'];

/**
 * @param argv of exmix, from the name of the command on
 * @returns the same command without the flags of chaos, for that run folder
 */
export function childCommand(argv: readonly string[], runDir: string): string[] {
  const kept: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i]!;
    const name = argument.split('=', 1)[0]!;
    if ([...WITH_VALUE, ...RUN_DIR].includes(name)) {
      if (!argument.includes('=')) i++; // its value
    } else if (!WITHOUT_VALUE.includes(name)) kept.push(argument);
    else if (!argument.includes('=') && /^(?:true|false)$/u.test(argv[i + 1] ?? '')) i++;
  }
  return [...kept, '--run-dir', runDir];
}
