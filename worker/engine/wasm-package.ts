/** The backend's npm package, loaded on demand: `import()` of a CommonJS package gives no names in a bundle, so this module has them. */
export { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
