/**
 * Asks the executable on a host to do something and understands its answer. Effects: through the connection it is given.
 */
import * as z from "zod";
import { MAX_HOST_ID } from "../address.ts";
import { HostError, TransportError } from "../errors.ts";
import type * as protocol from "../host/protocol.ts";
import { isKey } from "../keys.ts";
import { plainLine, plainText, plainValue } from "../plain.ts";
import type { Output } from "../step.ts";
import type { ExecOptions } from "./ssh.ts";
import "../zod_english.ts";

/** Where the executable lies on every host. */
export const HOST_EXECUTABLE = "/opt/mobula/bin/mobula";

/** Verb → its request and its result. */
export interface HostVerbs {
  prepare: [protocol.PrepareRequest, protocol.PrepareResult];
  stage: [protocol.StageRequest, protocol.StageResult];
  activate: [protocol.ActivateRequest, protocol.ActivateResult];
  status: [protocol.StatusRequest, protocol.StatusResult];
  probe: [protocol.ProbeRequest, protocol.ProbeResult];
  listen: [protocol.ListenRequest, protocol.ListenResult];
  confirm: [protocol.ConfirmRequest, protocol.ConfirmResult];
  extend: [protocol.ExtendRequest, protocol.ExtendResult];
  announce: [protocol.AnnounceRequest, protocol.AnnounceResult];
  "take-key": [Record<string, never>, protocol.TakeKeyResult];
  forget: [protocol.ForgetRequest, protocol.ForgetResult];
  earlier: [Record<string, never>, protocol.EarlierResult];
  uninstall: [protocol.UninstallRequest, protocol.UninstallResult];
  reboot: [Record<string, never>, protocol.RebootResult];
}

const capabilities = z.object({
  wireguard: z.enum(["kernel", "userspace"]),
  datapath: z.enum(["system", "netdev"]),
});

/** A host's word for a key is no more than a text; whose it may be, `claims.ts` says. */
const key = z.string().refine(isKey, "expected a WireGuard key");
/** Bytes that a link may take; what the fleet takes of it, `mtu.ts` says. */
const mtu = z.int().min(68).max(65_535);
const generation = z.int().min(0).max(1e9);
/** Since 1970. */
const milliseconds = z.number().min(0).max(1e15);

/** What is counted, or measured: nothing of it is negative. */
const amount = z.number().min(0).max(1e15);

const mtus = z.object({ wireguard: mtu, access: mtu });

const wireguard = z.object({
  publicKey: z.string(),
  peers: z.array(z.object({
    publicKey: z.string(),
    endpoint: z.string().optional(),
    allowedIps: z.array(z.string()),
    handshake: amount,
    received: amount,
    sent: amount,
  })),
});

const tree = z.object({
  root: z.string(),
  bridge: z.string(),
  ports: z.array(z.object({ name: z.string(), role: z.string(), state: z.string() })),
});

const RESULTS: { readonly [V in keyof HostVerbs]: z.ZodType<HostVerbs[V][1]> } = {
  prepare: z.object({
    publicKey: key,
    capabilities,
    newlyInstalled: z.boolean(),
    packagesInstalled: z.array(z.string()),
    underlayMtu: mtu,
    fleetMtu: mtu.optional(),
    liveKey: key.optional(),
    knowsKeys: z.boolean().optional(),
  }),
  stage: z.object({ generation, changed: z.boolean(), files: z.array(z.string()) }),
  activate: z.object({ cutsConnection: z.boolean(), steps: z.array(z.string()) }),
  status: z.object({
    generation,
    activation: z.enum(["running", "done", "failed", "rolledback"]),
    error: z.string().optional(),
    capabilities,
    bootId: z.string(),
    cut: z.boolean().optional(),
  }),
  probe: z.object({
    pings: z.array(amount.nullable()),
    names: z.array(z.string().nullable()),
    capabilities,
    clock: milliseconds,
    started: milliseconds.optional(),
    mtus: mtus.optional(),
    oversize: z.array(z.enum(["refused", "reported", "answered", "lost"])).optional(),
    dials: z.array(z.union([z.object({ milliseconds: amount }), z.object({ error: z.string() })]))
      .optional(),
    world: z.array(z.string()).optional(),
    passes: z.array(amount.nullable()).optional(),
    wireguard: wireguard.optional(),
    tree: tree.optional(),
    egress: z.string().optional(),
    paths: z.array(z.object({
      name: z.string(),
      up: z.boolean(),
      held: z.boolean().optional(),
      over: z.int().min(1).max(MAX_HOST_ID).optional(),
    })).optional(),
  }),
  listen: z.object({ served: amount }),
  confirm: z.object({ generation }),
  extend: z.object({ armed: z.boolean() }),
  announce: z.object({ following: z.boolean() }),
  "take-key": z.object({ taken: z.boolean(), unanswered: z.array(z.string()) }),
  forget: z.object({ left: amount }),
  earlier: z.object({ generation, publicKey: key, liveKey: key.optional() }),
  uninstall: z.object({
    started: z.literal(true),
    removing: z.array(z.string()),
    kept: z.array(z.string()),
  }),
  reboot: z.object({ bootId: z.string() }),
};

const STEP = z.object({ event: z.literal("step"), title: z.string() });
const RESULT = z.object({ event: z.literal("result"), result: z.unknown() });
const ERROR = z.object({ event: z.literal("error"), kind: z.string(), message: z.string() });
const EVENT = z.discriminatedUnion("event", [STEP, RESULT, ERROR]);

const id = z.object({ id: z.int() });
const SESSION_EVENT = z.discriminatedUnion("event", [
  z.object({ event: z.literal("ready") }),
  STEP.extend(id.shape),
  RESULT.extend(id.shape),
  ERROR.extend(id.shape),
]);

/** Milliseconds a verb may take; packages may have to wait for another package manager's lock. */
export const DEADLINES: { readonly [V in keyof HostVerbs]: number } = {
  prepare: 30 * 60_000,
  stage: 2 * 60_000,
  activate: 5 * 60_000,
  status: 60_000,
  probe: 5 * 60_000,
  listen: 60 * 60_000,
  confirm: 60_000,
  extend: 30_000,
  announce: 2 * 60_000,
  "take-key": 60_000,
  forget: 60_000,
  earlier: 60_000,
  // A simulation or two of the package manager.
  uninstall: 3 * 60_000,
  reboot: 60_000,
};

/** The part of a connection that is needed here. */
export interface Executor {
  exec(argv: readonly string[], options?: ExecOptions): Promise<Output>;
}

/** How a verb is called. */
export interface CallOptions {
  /** Called with the title of each step. */
  readonly onStep?: (title: string) => void;
  /** Deadline; default: the verb's own. */
  readonly milliseconds?: number;
  /** Standard input stays open until this is settled; only for a call in a process of its own. */
  readonly hold?: Promise<unknown>;
  /** Called once, with the first line from the host. */
  readonly onAnswer?: () => void;
}

/** Something that runs verbs on one host. */
export interface HostCaller {
  call<V extends keyof HostVerbs>(
    verb: V,
    request: HostVerbs[V][0],
    options?: CallOptions,
  ): Promise<HostVerbs[V][1]>;
}

/**
 * Runs one verb on the host in a process of its own. A HostError says what the host found wrong, a TransportError that the connection
 * died before the host's answer was there.
 */
export async function callHost<V extends keyof HostVerbs>(
  ssh: Executor,
  verb: V,
  request: HostVerbs[V][0],
  { onStep, milliseconds = DEADLINES[verb], hold, onAnswer }: CallOptions = {},
): Promise<HostVerbs[V][1]> {
  const answer = new Answer(onStep);
  let first = onAnswer;
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), milliseconds);
  const output = await ssh.exec([HOST_EXECUTABLE, "host", verb], {
    stdin: hold ? heldInput(`${JSON.stringify(request)}\n`, hold) : `${JSON.stringify(request)}\n`,
    onLine: (line) => {
      first?.();
      first = undefined;
      answer.take(line);
    },
    signal: deadline.signal,
  }).catch((error) => {
    // The host may take its network away right after the answer: an answer that is here counts.
    if (error instanceof TransportError && (answer.hasResult || answer.error)) {
      return { code: 255, stderr: "" };
    }
    throw error;
  }).finally(() => clearTimeout(timer));
  return resultOf(verb, answer, output);
}

/** The checked result of a verb; a HostError where the host reported one, or gave none. */
export function resultOf<V extends keyof HostVerbs>(
  verb: V,
  answer: Answer,
  { code, stderr }: { readonly code?: number; readonly stderr: string },
): HostVerbs[V][1] {
  if (answer.error) throw new HostError(answer.error);
  const result = RESULTS[verb].safeParse(answer.result);
  if (answer.hasResult && result.success) return result.data;
  const said = stderr.trim().split("\n").slice(-5).join("\n  ") || answer.noise.join("\n  ");
  const found = answer.hasResult
    ? `an answer of another shape (${z.prettifyError(result.error!)})`
    : `no answer, exit code ${code}`;
  throw new HostError(`Cannot ${verb} host: ${found}${said ? `:\n  ${said}` : ""}`);
}

/** A text, and then nothing until `hold` is settled. */
function heldInput(text: string, hold: Promise<unknown>): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(text));
      const close = () => {
        try {
          controller.close();
        } catch {
          // The command has ended first.
        }
      };
      hold.then(close, close);
    },
  });
}

/** Characters of what a host says went wrong. */
const MAX_MESSAGE = 4000;
/** Lines that are none of the protocol's: so many are kept. */
const MAX_NOISE = 5;

/** Collects the events of one answer; every text in it is plain. */
export class Answer {
  result: unknown;
  hasResult = false;
  error: string | undefined;
  /** Lines that are none of the protocol's. */
  readonly noise: string[] = [];
  readonly #onStep: (title: string) => void;

  constructor(onStep: (title: string) => void = () => {}) {
    this.#onStep = onStep;
  }

  /** Takes a line of a process that answers one request. */
  take(line: string): void {
    const event = EVENT.safeParse(parseJson(line));
    if (event.success) this.takeEvent(event.data);
    else this.addNoise(line);
  }

  /** Keeps the last few lines that nobody understands. */
  addNoise(line: string): void {
    this.noise.push(plainLine(line));
    if (this.noise.length > MAX_NOISE) this.noise.shift();
  }

  takeEvent(event: z.infer<typeof EVENT>): void {
    if (event.event === "step") {
      this.#onStep(plainLine(event.title));
    } else if (event.event === "error") {
      this.error = plainText(event.message, MAX_MESSAGE);
    } else {
      this.result = plainValue(event.result);
      this.hasResult = true;
    }
  }
}

/** A line of a session: it is ready, or an event of one request; undefined for anything else. */
export function parseSessionEvent(line: string): z.infer<typeof SESSION_EVENT> | undefined {
  return SESSION_EVENT.safeParse(parseJson(line)).data;
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
