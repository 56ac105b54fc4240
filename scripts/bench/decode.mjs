// One stream of greedy decoding through llama.cpp (node-llama-cpp), for scripts/bench-decode.
//
// usage: node decode.mjs MODEL.gguf PROMPT_IDS.json TOKENS THREADS RUNS   (in the folder with node_modules)
//
// Prints one JSON object: tokens per second of each run (between the first token and the last), and the ids of the
// last run. Weights as they are in the file; keys and values of the cache f32, as ours.

import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const require = createRequire(process.cwd() + "/");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(require.resolve("node-llama-cpp")).href);
const [modelPath, promptPath, ...numbers] = process.argv.slice(2);
const [tokens, threads, runs] = numbers.map(Number);
const prompt = JSON.parse(readFileSync(promptPath, "utf8"));

const llama = await getLlama({gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error, maxThreads: threads});
const model = await llama.loadModel({modelPath, gpuLayers: 0});
const context = await model.createContext({
  contextSize: 1024,
  batchSize: 512,
  experimentalKvCacheKeyType: "F32",
  experimentalKvCacheValueType: "F32",
  threads: {ideal: threads, min: threads},
});
const sequence = context.getSequence();
const rates = [];
let ids = [];
for (let run = 0; run < runs; run++) {
  await sequence.clearHistory();
  ids = [];
  let first;
  for await (const token of sequence.evaluate(prompt, {temperature: 0})) {
    if (first === undefined) first = performance.now();
    ids.push(Number(token));
    if (ids.length >= tokens) break;
  }
  rates.push((ids.length - 1) / ((performance.now() - first) / 1e3));
}
console.log(JSON.stringify({rates, ids, threads: context.currentThreads ?? threads}));
await llama.dispose();
