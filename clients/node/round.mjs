// One round through a running mesh: a typed call, a call for another service, an error with its details, a deadline.
// Prints one JSON object. Usage: node round.mjs IMAGE
import { readFileSync } from 'node:fs';
import { call, connect } from './sensorium.mjs';

const [, , path] = process.argv;
if (!path) {
  console.error('usage: node round.mjs IMAGE');
  process.exit(2);
}
const mesh = connect();
const caught = async (promise) => {
  try {
    await promise;
    return null;
  } catch (error) {
    return { code: error.code, message: error.details, violations: error.violations };
  }
};

const image = { content: readFileSync(path) };
const photo = await call(mesh.vision, 'ClassifyImage', { images: [image], topK: 3 });
const [{ status, classifications }] = photo.results;
if (status?.code) {
  console.error(`${path}: ${status.message}`);
  process.exit(1);
}
const sentence = await call(mesh.nlp, 'EmbedText', { texts: ['The cat sleeps on the sofa.'] });
const models = await call(mesh.mesh, 'ListModels', {});
console.log(JSON.stringify({
  labels: classifications.map(({ label, score }) => ({ label, score })),
  model: photo.model,
  dimensions: sentence.results[0].embedding.values.length,
  models: models.models.length,
  empty: await caught(call(mesh.vision, 'ClassifyImage', { images: [] })),
  unknown: await caught(call(mesh.vision, 'ClassifyImage', { model: 'no-such-model', images: [image] })),
  late: await caught(call(mesh.vision, 'ClassifyImage', { images: [image] }, { timeoutS: 0.001 })),
}));
