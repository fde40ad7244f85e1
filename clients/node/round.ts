// One round through a running mesh, as the other languages do it: typed calls, a stream, errors with their details, a deadline, a retry.
// Prints one JSON object. Usage: node build/js/round.js PHOTO CLIP
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Mesh, MeshError } from './sensorium.js';

const SENTENCES = ['A cat is sleeping on the sofa.', 'The kitten naps on the couch.', 'Interest rates rose again.'];

async function classify(mesh: Mesh, photo: Buffer) {
  const { results, model } = await mesh.vision.call('ClassifyImage', { images: [{ content: photo }], topK: 3 });
  const [best] = results[0]?.classifications ?? [];
  if (!best) throw new Error(`photo: ${results[0]?.status?.message ?? 'no result'}`);
  return { label: best.label, score: best.score, model: model?.name };
}

async function compare(mesh: Mesh) {
  const { results } = await mesh.nlp.call('EmbedText', { texts: SENTENCES });
  const [cat, kitten, rates] = results.map((result) => result.embedding?.values ?? []);
  if (!cat || !kitten || !rates) throw new Error(`sentence: expected three vectors, got ${results.length}`);
  return { dimensions: cat.length, near: cosine(cat, kitten), far: cosine(cat, rates) };
}

/** Vectors are of unit length. */
function cosine(one: number[], other: number[]): number {
  return one.reduce((sum, value, at) => sum + value * (other[at] ?? 0), 0);
}

async function infer(mesh: Mesh, ids: string[]) {
  const stream = mesh.inference.stream('ModelStreamInfer', { timeoutS: 60 });
  for (const id of ids) {
    stream.write({
      modelName: 'minilm',
      id,
      inputs: [
        { name: 'input_ids', datatype: 'INT64', shape: [1, 3], contents: { int64Contents: [101, 4937, 102] } },
        { name: 'attention_mask', datatype: 'INT64', shape: [1, 3], contents: { int64Contents: [1, 1, 1] } },
      ],
    });
  }
  stream.end();
  const answered: string[] = [];
  let errors = 0;
  for await (const { inferResponse, errorMessage } of stream) {
    if (errorMessage) errors += 1;
    answered.push(inferResponse?.id ?? '');
  }
  return { ids: answered, errors };
}

/** The error that a call is expected to end with. */
async function refused(call: Promise<unknown>): Promise<MeshError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof MeshError) return error;
    throw error;
  }
  throw new Error('expected the call to be refused, it was answered');
}

async function main(photo: Buffer, clip: Buffer) {
  const mesh = new Mesh();
  const stranger = new Mesh({ token: '' });
  const flaky = new Mesh({ address: process.env.SENSORIUM_FLAKY_ADDRESS });
  const image = { content: photo };
  const { code, violations, reason, requestId } = await refused(mesh.vision.call('ClassifyImage', { images: [] }));
  const again = await flaky.nlp.call('EmbedText', { texts: ['again'] });
  const said = {
    photo: await classify(mesh, photo),
    sentence: await compare(mesh),
    clip: { text: (await mesh.speech.call('Transcribe', { audio: { content: clip } })).text },
    models: (await mesh.mesh.call('ListModels', {})).models.length,
    stream: await infer(mesh, ['a', 'b', 'c']),
    noToken: { code: (await refused(stranger.nlp.call('EmbedText', { texts: ['x'] }))).code },
    empty: { code, field: violations[0]?.field, reason, requestId: requestId !== '' },
    unknown: {
      code: (await refused(mesh.vision.call('ClassifyImage', { model: 'no-such-model', images: [image] }))).code,
    },
    late: { code: (await refused(mesh.vision.call('ClassifyImage', { images: [image] }, { timeoutS: 0.001 }))).code },
    retried: { dimensions: again.results[0]?.embedding?.values.length },
    client: {
      language: 'node',
      grpc: createRequire(import.meta.url)('@grpc/grpc-js/package.json').version,
      runtime: process.versions.node,
    },
  };
  for (const one of [mesh, stranger, flaky]) one.close();
  console.log(JSON.stringify(said));
}

const [, , photo, clip] = process.argv;
if (!photo || !clip) {
  console.error('usage: node build/js/round.js PHOTO CLIP');
  process.exit(2);
}
await main(readFileSync(photo), readFileSync(clip));
