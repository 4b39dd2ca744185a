// The build of the sources as they are now. Builds are kept side by side in dist/, each under a key of the names, sizes and times of
// its sources: a run goes on with the build it was started from while the sources change, and two processes that build at the
// same time make the same folder, of which the first rename wins.
import { existsSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, sourceKey } from './source-key.mjs';

/** @returns {Promise<URL>} its folder */
export async function currentBuild() {
  const folder = join(ROOT, 'dist', sourceKey());
  if (existsSync(folder)) {
    touch(folder);
  } else {
    // Loaded here: esbuild is not needed where the build is there.
    const { makeBuild } = await import('./build.mjs');
    await makeBuild(folder);
  }
  return pathToFileURL(join(folder, '/'));
}

/** Marks a build as used, so that it is removed last. */
function touch(folder) {
  const now = new Date();
  try {
    utimesSync(folder, now, now);
  } catch {
    // A checkout of somebody else, which this user only reads.
  }
}
