#!/usr/bin/env bash
# Packs exmix, installs the tarball into an empty folder without network and without this repository's settings, and uses it as others do:
# the demo for two steps on the command line, a task in TypeScript and a program against the programming interface, type-checked strictly.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm run pack -- --pack-destination "$work" >"$work/pack.log" 2>&1 || { cat "$work/pack.log"; exit 1; }
version=$(node -p 'require("./package.json").version')
tarball=$work/exmix-$version.tgz

tar -tzf "$tarball" >"$work/files"
if grep -E '\.test\.ts$|^package/(bench|e2e|\.ci|dist/package/.*test)' "$work/files"; then
  echo 'the package holds files of tests' >&2
  exit 1
fi
bytes=$(stat -c %s "$tarball")
demo=$(tar -cz deploy/demo/data deploy/demo/validation deploy/demo/test | wc -c)
echo "package: $bytes B in $(wc -l <"$work/files") files; $((bytes - demo)) B without the demo's data"
((bytes - demo < 10 * 1000 * 1000))

# npm's own defaults: no configuration of this repository or of the user.
export EXMIX_HOME=$work/home npm_config_userconfig=/dev/null
unset npm_config_ignore_scripts
mkdir "$work/global" "$work/empty" "$work/consumer"
npm install --global --offline --prefix "$work/global" "$tarball"
cd "$work/empty"
"$work/global/bin/exmix" train --preset demo --engine wasm --steps 2 --seed 7 --run-dir run
"$work/global/bin/exmix" checkpoint verify run/checkpoints/step-2

cd "$work/consumer"
echo '{ "private": true, "type": "module" }' >package.json
npm install --offline "$tarball"
cp "$root"/examples/own-task/{train.ts,upper-task.ts,words.jsonl} .
sed "s|tokenizer: .*|tokenizer: node_modules/exmix/deploy/demo/tokenizer/spiece.model|" \
  "$root/examples/own-task/mixture.yaml" >mixture.yaml
# Of the packages of this repository only the compiler and the types of Node.
mkdir -p node_modules/@types
cp -r "$root/node_modules/@types/node" node_modules/@types/
cp -r "$root/node_modules/undici-types" node_modules/
node "$root/node_modules/typescript/bin/tsc" --strict --exactOptionalPropertyTypes --noUncheckedIndexedAccess \
  --skipLibCheck false --target ES2023 --module NodeNext --types node train.ts upper-task.ts
node train.js
echo 'package: ok'
