// Runs the original CenterNet graph in TensorFlow.js: the reference of centernet's golden file.
//
//     node reference_centernet.mjs MODEL.json IMAGE.f32 DETECTIONS.f32
//
// IMAGE.f32: 512 x 512 x 3 little-endian float32, RGB 0..255. DETECTIONS.f32: 100 x 6 float32. Needs, in a folder of
// its own: @tensorflow/tfjs 4.22.0 (MODULES names its node_modules). export_centernet.py calls this.
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const require = createRequire(join(process.env.MODULES, 'anchor.js'));
const tf = require('@tensorflow/tfjs');

const [modelPath, imagePath, outputPath] = process.argv.slice(2);
const bytes = (path) => { const data = readFileSync(path); return data.buffer.slice(data.byteOffset, data.byteOffset + data.length); };

const manifest = JSON.parse(readFileSync(modelPath, 'utf8'));
const loader = {
  load: async () => ({
    modelTopology: manifest.modelTopology,
    format: manifest.format,
    signature: manifest.signature,
    weightSpecs: manifest.weightsManifest[0].weights,
    weightData: bytes(join(dirname(modelPath), manifest.weightsManifest[0].paths[0])),
  }),
};
await tf.setBackend('cpu');
const model = await tf.loadGraphModel(loader);
const image = tf.tensor4d(new Float32Array(bytes(imagePath)), [1, 512, 512, 3]);
const detections = model.execute(image, 'tower_0/detections');
writeFileSync(outputPath, Buffer.from(new Float32Array(await detections.data()).buffer));
