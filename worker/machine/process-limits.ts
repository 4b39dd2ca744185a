/** Limits of this process by /proc/self/limits (what `ulimit` shows). Pure. */

/** @returns the soft limit of open files, Infinity where there is none, undefined where the text does not tell */
export function parseOpenFilesLimit(text: string): number | undefined {
  const soft = /^Max open files\s+(\S+)/mu.exec(text)?.[1];
  if (soft === undefined) return undefined;
  return soft === 'unlimited' ? Infinity : Number(soft);
}
