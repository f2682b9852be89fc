/**
 * Listens for the other hosts while a verification goes on: at the host's own intrawire address, and in the gateway's namespace at its
 * access address. Ends with its standard input, whoever held it, or with its time. Effects: TCP connections, a child in the namespace.
 */
import { hostAddresses } from "../address.ts";
import { HostError } from "../errors.ts";
import { pause } from "../pause.ts";
import type { Context } from "./context.ts";
import { readConfig } from "./context.ts";
import { enterNamespace } from "./local_runner.ts";
import { CURRENT_LINK, EXECUTABLE } from "./paths.ts";
import { type HostEvent, LISTENING, type ListenRequest, type ListenResult } from "./protocol.ts";
import { listenUnlessListening } from "./transfer.ts";

/** Milliseconds between two looks whether the address is free. */
const ANOTHER_LISTENS = 200;

/** What the child in the gateway's namespace is told. */
interface GatewayRequest extends ListenRequest {
  readonly gatewayOf?: number;
}

/** Listens until `ended`, and reports when both listeners are up. */
export async function listen(request: GatewayRequest, context: Context): Promise<ListenResult> {
  const time = timeOver(Math.min(request.seconds, 3600) * 1000);
  const ended = Promise.race([context.ended, time.over]);
  try {
    return request.gatewayOf === undefined
      ? await listenOnHost(request, context, ended)
      : await listenHere(hostAddresses(request.gatewayOf).gateway, request.gatewayOf, context, ended);
  } finally {
    time.stop();
  }
}

async function listenOnHost(
  request: GatewayRequest,
  context: Context,
  ended: Promise<void>,
): Promise<ListenResult> {
  const config = await readConfig(context.runner, CURRENT_LINK);
  if (!config) throw new HostError("Cannot listen: mobula is not installed here; expected a push before");
  const gateway = startGateway({ ...request, gatewayOf: config.self });
  try {
    const { intrawire } = hostAddresses(config.self);
    const both = (title: string) => void gateway.listening.then(() => context.report(title), () => {});
    return await Promise.race([
      listenHere(intrawire, config.self, { report: both }, ended),
      gateway.failed,
    ]);
  } finally {
    await gateway.end();
  }
}

async function listenHere(
  address: string,
  id: number,
  { report }: Pick<Context, "report">,
  ended: Promise<void>,
): Promise<ListenResult> {
  let over = false;
  const stop = ended.then(() => void (over = true));
  let listening = await listenUnlessListening(address, id);
  report(LISTENING);
  while (!listening && !over) {
    await Promise.race([stop, pause(ANOTHER_LISTENS)]);
    listening = await listenUnlessListening(address, id);
  }
  await stop;
  listening?.close();
  return { served: listening?.served() ?? 0 };
}

/** The child's standard input ends with us, however we end. */
function startGateway(request: GatewayRequest) {
  const [program = "", ...args] = enterNamespace({
    argv: [EXECUTABLE, "host", "listen"],
    namespace: "mobula",
  });
  const child = new Deno.Command(program, { args, stdin: "piped", stdout: "piped", stderr: "null" }).spawn();
  const writer = child.stdin.getWriter();
  writer.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`)).catch(() => {});
  const listening = Promise.withResolvers<void>();
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  const hear = async () => {
    let last = "";
    for await (const line of linesOf(child.stdout)) {
      const event: HostEvent = JSON.parse(line);
      if (event.event === "step" && event.title === LISTENING) listening.resolve();
      if (event.event === "error") last = event.message;
    }
    failed.reject(new HostError(`Cannot listen in the gateway: ${last || "it ended"}`));
  };
  hear().catch((error) => failed.reject(new HostError(`Cannot listen in the gateway: ${error}`)));
  const end = async () => {
    await writer.close().catch(() => {});
    await child.status;
  };
  return { listening: listening.promise, failed: failed.promise, end };
}

/** Bytes of a stream → lines of text. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
}

function timeOver(milliseconds: number): { over: Promise<void>; stop: () => void } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<void>((resolve) => timer = setTimeout(resolve, milliseconds));
  return { over, stop: () => clearTimeout(timer) };
}
