// Stubs made from protos/ when the program starts, and channels with the mesh's token.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const PROTOS = fileURLToPath(new URL('../../protos', import.meta.url));
const definition = protoLoader.loadSync(
  ['vision', 'nlp', 'speech', 'mesh'].map((name) => `sensorium/${name}/v1/${name}_service.proto`)
    .concat('google/rpc/error_details.proto', 'google/rpc/status.proto'),
  { includeDirs: [PROTOS], longs: Number, enums: String, defaults: true },
);
const packages = grpc.loadPackageDefinition(definition);

/** Token of SENSORIUM_TOKEN, else of the file that `sensorium up` writes. */
export function readToken(environ = process.env) {
  if (environ.SENSORIUM_TOKEN) return environ.SENSORIUM_TOKEN;
  const state = environ.SENSORIUM_STATE_DIR
    ?? join(environ.XDG_STATE_HOME ?? join(homedir(), '.local', 'state'), 'sensorium');
  return readFileSync(environ.SENSORIUM_TOKEN_FILE ?? join(state, 'token'), 'utf8').trim();
}

/** Clients of all services: `{vision, nlp, speech, mesh}`. Each call is `await call(client, 'Method', request, {timeoutS})`. */
export function connect(address = process.env.SENSORIUM_ADDRESS ?? '127.0.0.1:8080', token = readToken()) {
  const credentials = grpc.credentials.createInsecure();
  const options = { 'grpc.max_receive_message_length': 32 << 20 };
  const { sensorium } = packages;
  const make = (Service) => Object.assign(new Service(address, credentials, options), { token });
  return {
    vision: make(sensorium.vision.v1.VisionService),
    nlp: make(sensorium.nlp.v1.NlpService),
    speech: make(sensorium.speech.v1.SpeechService),
    mesh: make(sensorium.mesh.v1.MeshService),
  };
}

/** One unary call; rejects with grpc's error, to which `violations` adds the bad fields that the mesh names. */
export function call(client, method, request, { timeoutS = 30 } = {}) {
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${client.token}`);
  const deadline = new Date(Date.now() + timeoutS * 1000);
  return new Promise((resolve, reject) => {
    client[method](request, metadata, { deadline }, (error, reply) => {
      if (!error) return resolve(reply);
      error.violations = violations(error);
      return reject(error);
    });
  });
}

/** Field violations out of the error's google.rpc.Status, `[{field, description}]`. */
function violations(error) {
  const [encoded] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!encoded) return [];
  const status = decode('google.rpc.Status', encoded);
  return status.details
    .filter((detail) => detail.type_url.endsWith('/google.rpc.BadRequest'))
    .flatMap((detail) => decode('google.rpc.BadRequest', detail.value).field_violations
      ?? decode('google.rpc.BadRequest', detail.value).fieldViolations);
}

function decode(name, bytes) {
  return definition[name].deserialize(Buffer.from(bytes));
}
