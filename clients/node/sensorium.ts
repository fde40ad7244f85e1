// A connection to a mesh: where it is, the token, deadlines, retries and readable errors. The calls themselves are typed by protos/:
// `proto-loader-gen-types` writes the types when this is built, and the same files are loaded when it runs.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as grpc from '@grpc/grpc-js';
import * as protoLoader from '@grpc/proto-loader';
import type { BadRequest__Output } from './build/protos/google/rpc/BadRequest.js';
import type { ErrorInfo__Output } from './build/protos/google/rpc/ErrorInfo.js';
import type { RetryInfo__Output } from './build/protos/google/rpc/RetryInfo.js';
import type { Status__Output } from './build/protos/google/rpc/Status.js';
import type { GRPCInferenceServiceDefinition } from './build/protos/inference/GRPCInferenceService.js';
import type { MeshServiceDefinition } from './build/protos/sensorium/mesh/v1/MeshService.js';
import type { NlpServiceDefinition } from './build/protos/sensorium/nlp/v1/NlpService.js';
import type { SpeechServiceDefinition } from './build/protos/sensorium/speech/v1/SpeechService.js';
import type { VisionServiceDefinition } from './build/protos/sensorium/vision/v1/VisionService.js';

/** Where this file lies once it is compiled: clients/node/build/js. */
const fromRoot = (path: string) => fileURLToPath(new URL(`../../../../${path}`, import.meta.url));

const definitions = protoLoader.loadSync(
  [
    ...['vision', 'nlp', 'speech', 'mesh'].map((name) => `sensorium/${name}/v1/${name}_service.proto`),
    'sensorium/oip/v2/inference.proto',
    'google/rpc/error_details.proto',
    'google/rpc/status.proto',
  ],
  { includeDirs: [fromRoot('protos')], longs: Number, enums: String, defaults: true, oneofs: true },
);
/** What is tried again, when and how often; the same file for every language. */
const SERVICE_CONFIG = readFileSync(fromRoot('clients/service_config.json'), 'utf8');
const MAX_MESSAGE_BYTES = 128 * 2 ** 20;
const LOOPBACK = /^(127(\.\d{1,3}){3}|localhost|\[::1\]):\d+$/;

export interface Settings {
  /** `host:port` or `http://host` for plaintext, `https://host` for TLS; else SENSORIUM_ADDRESS, else 127.0.0.1:8080. */
  address?: string;
  /** Sent with every call, '' sends none; else SENSORIUM_TOKEN, the file SENSORIUM_TOKEN_FILE, or what `sensorium up` wrote. */
  token?: string;
  /** PEM of a private authority, for TLS. */
  rootCertificates?: Buffer;
  /** For each call that does not say otherwise. */
  timeoutS?: number;
}

/** The rpcs of a service by name, without the index signature that gRPC's own types put beside them. */
type Rpcs<D> = {
  [M in keyof D as string extends M ? never : number extends M ? never : M]: D[M] extends protoLoader.MethodDefinition<
    infer Request,
    infer _Response,
    infer _RequestOut,
    infer Response
  >
    ? { request: Request; response: Response }
    : never;
};
type Name<D> = keyof Rpcs<D> & string;
type Request<D, M extends Name<D>> = Rpcs<D>[M] extends { request: infer T } ? T : never;
type Response<D, M extends Name<D>> = Rpcs<D>[M] extends { response: infer T } ? T : never;

/** One service of the mesh. */
export class Service<D> {
  constructor(
    private readonly client: grpc.Client,
    private readonly rpcs: protoLoader.ServiceDefinition,
    private readonly token: string,
    private readonly timeoutS: number,
  ) {}

  /** One call. Rejects with MeshError. */
  call<M extends Name<D>>(name: M, request: Request<D, M>, { timeoutS = this.timeoutS } = {}): Promise<Response<D, M>> {
    const rpc = this.rpc(name);
    const options = { deadline: new Date(Date.now() + timeoutS * 1000) };
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        rpc.path,
        rpc.requestSerialize,
        rpc.responseDeserialize,
        request as object,
        this.metadata(),
        options,
        (error, reply) => (error ? reject(new MeshError(error)) : resolve(reply as Response<D, M>)),
      );
    });
  }

  /** A stream in both directions; it has no deadline unless `timeoutS` says so. Its `error` event is grpc's: see MeshError. */
  stream<M extends Name<D>>(
    name: M,
    { timeoutS = Number.POSITIVE_INFINITY } = {},
  ): grpc.ClientDuplexStream<Request<D, M>, Response<D, M>> {
    const rpc = this.rpc(name);
    const options = Number.isFinite(timeoutS) ? { deadline: new Date(Date.now() + timeoutS * 1000) } : {};
    return this.client.makeBidiStreamRequest(
      rpc.path,
      rpc.requestSerialize as (request: Request<D, M>) => Buffer,
      rpc.responseDeserialize as (bytes: Buffer) => Response<D, M>,
      this.metadata(),
      options,
    );
  }

  private rpc(name: string): protoLoader.MethodDefinition<object, object> {
    const rpc = this.rpcs[name];
    if (!rpc) throw new TypeError(`no rpc ${name}; there are ${Object.keys(this.rpcs).join(', ')}`);
    return rpc;
  }

  private metadata(): grpc.Metadata {
    const metadata = new grpc.Metadata();
    if (this.token) metadata.set('authorization', `Bearer ${this.token}`);
    return metadata;
  }
}

/** A mesh: its services share one connection. */
export class Mesh {
  readonly vision: Service<VisionServiceDefinition>;
  readonly nlp: Service<NlpServiceDefinition>;
  readonly speech: Service<SpeechServiceDefinition>;
  readonly mesh: Service<MeshServiceDefinition>;
  /** Tensors in and out, for any model. */
  readonly inference: Service<GRPCInferenceServiceDefinition>;
  private readonly client: grpc.Client;

  constructor(settings: Settings = {}) {
    const { target, secure } = readAddress(settings.address || process.env.SENSORIUM_ADDRESS || '127.0.0.1:8080');
    const credentials = secure
      ? grpc.credentials.createSsl(settings.rootCertificates ?? null)
      : grpc.credentials.createInsecure();
    this.client = new grpc.Client(target, credentials, {
      'grpc.service_config': SERVICE_CONFIG,
      'grpc.service_config_disable_resolution': 1,
      // A request that is larger is not kept, and so not sent twice; by default that were 1 MiB, and 16 MiB of all calls together.
      'grpc.per_rpc_retry_buffer_size': MAX_MESSAGE_BYTES,
      'grpc.retry_buffer_size': 4 * MAX_MESSAGE_BYTES,
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.keepalive_time_ms': 120_000,
      'grpc.keepalive_timeout_ms': 20_000,
      // No proxy of the environment stands between this machine and itself.
      ...(LOOPBACK.test(target) ? { 'grpc.enable_http_proxy': 0 } : {}),
    });
    const token = settings.token ?? readToken(target);
    const make = <D>(name: string) =>
      new Service<D>(this.client, definitions[name] as protoLoader.ServiceDefinition, token, settings.timeoutS ?? 60);
    this.vision = make('sensorium.vision.v1.VisionService');
    this.nlp = make('sensorium.nlp.v1.NlpService');
    this.speech = make('sensorium.speech.v1.SpeechService');
    this.mesh = make('sensorium.mesh.v1.MeshService');
    this.inference = make('inference.GRPCInferenceService');
  }

  /** Closes the connection; calls that run fail. */
  close(): void {
    this.client.close();
  }
}

/** A call that failed, with what the mesh says about it. */
export class MeshError extends Error {
  /** Name of the gRPC status, e.g. `INVALID_ARGUMENT`. */
  readonly code: string;
  /** For programs, e.g. `TOKEN_EXPIRED`; or empty. */
  readonly reason: string = '';
  /** The fields that are wrong. */
  readonly violations: { field: string; description: string }[] = [];
  /** When to try again; null where the mesh does not say. */
  readonly retryAfterS: number | null = null;
  /** What to ask the mesh's logs for; or empty. */
  readonly requestId: string;

  constructor(error: grpc.ServiceError) {
    super(error.details, { cause: error });
    this.name = 'MeshError';
    this.code = grpc.status[error.code];
    this.requestId = String(error.metadata.get('x-request-id')[0] ?? '');
    const [status] = error.metadata.get('grpc-status-details-bin');
    if (!Buffer.isBuffer(status)) return;
    for (const detail of decode<Status__Output>('google.rpc.Status', status).details) {
      const bytes = detail.value as Buffer;
      switch (detail.type_url.split('/').pop()) {
        case 'google.rpc.ErrorInfo':
          this.reason = decode<ErrorInfo__Output>('google.rpc.ErrorInfo', bytes).reason;
          break;
        case 'google.rpc.BadRequest':
          this.violations.push(...decode<BadRequest__Output>('google.rpc.BadRequest', bytes).fieldViolations);
          break;
        case 'google.rpc.RetryInfo': {
          const { retryDelay } = decode<RetryInfo__Output>('google.rpc.RetryInfo', bytes);
          if (retryDelay) this.retryAfterS = retryDelay.seconds + retryDelay.nanos / 1e9;
          break;
        }
      }
    }
  }
}

function decode<T>(type: string, bytes: Buffer): T {
  return (definitions[type] as protoLoader.MessageTypeDefinition<object, object>).deserialize(bytes) as T;
}

function readAddress(address: string): { target: string; secure: boolean } {
  const [, scheme = '', rest = address] = /^(?:(https?):\/\/)?([^/]+)\/?$/.exec(address) ?? [];
  const target = /:\d+$/.test(rest) || !scheme ? rest : `${rest}:${scheme === 'https' ? 443 : 80}`;
  if (!/^[^/@?]+:\d+$/.test(target)) {
    throw new TypeError(`address: expected host:port, http://… or https://…, got ${address}`);
  }
  return { target, secure: scheme === 'https' };
}

/** The token that the local mesh wrote is only ever sent to this machine. */
function readToken(target: string): string {
  const { SENSORIUM_TOKEN, SENSORIUM_TOKEN_FILE, SENSORIUM_STATE_DIR, XDG_STATE_HOME } = process.env;
  if (SENSORIUM_TOKEN) return SENSORIUM_TOKEN.trim();
  if (SENSORIUM_TOKEN_FILE) return readFileSync(SENSORIUM_TOKEN_FILE, 'utf8').trim();
  if (!LOOPBACK.test(target)) return '';
  const state = SENSORIUM_STATE_DIR || join(XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'sensorium');
  try {
    return readFileSync(join(state, 'token'), 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
