/**
 * Asks one name server for one name. The system's resolver would look into /etc/hosts first, where a host is often its own
 * 127.0.1.1. Effects: sends UDP packets to the server it is given.
 */
import dnsPacket from "dns-packet";

/** The parts of a decoded DNS message (RFC 1035) that are needed here. */
interface DnsMessage {
  readonly id?: number;
  readonly rcode?: string;
  readonly answers?: readonly { readonly type: string; readonly data: unknown }[];
}

/** Milliseconds after which a question is asked again. */
const RETRY = 500;

/** The first A record that `server` has for `name`; null if it has none, or says nothing within `patience` milliseconds. */
export async function queryAddress(name: string, server: string, patience: number): Promise<string | null> {
  return (await query(name, server, patience))?.address ?? null;
}

/** What a name server answered. */
export interface DnsAnswer {
  /** `NOERROR`, `NXDOMAIN`, `SERVFAIL`, … */
  readonly status: string;
  readonly address: string | null;
}

/** The answer to one question; undefined for none within `patience` milliseconds. */
export async function query(
  name: string,
  server: string,
  patience: number,
): Promise<DnsAnswer | undefined> {
  const { createSocket } = await import("node:dgram");
  const id = crypto.getRandomValues(new Uint16Array(1))[0] ?? 0;
  const question: Uint8Array = dnsPacket.encode({
    type: "query",
    id,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ type: "A", name }],
  });
  const socket = createSocket("udp4");
  const { promise, resolve } = Promise.withResolvers<DnsAnswer | undefined>();
  socket.on("error", () => resolve(undefined));
  socket.on("message", (packet) => {
    const answer = readAnswer(packet, id);
    if (answer !== undefined) resolve(answer);
  });
  const isAnswered = promise.then(() => true as const);
  try {
    // On a host that is too busy to read, timers are late and answers lie there: each question has its own time.
    for (let left = patience; left > 0; left -= RETRY) {
      socket.send(question, 53, server, () => {});
      if (await within(isAnswered, Math.min(left, RETRY))) return await promise;
    }
    return await within(isAnswered, 0) ? await promise : undefined;
  } finally {
    socket.close();
  }
}

/** Whether it comes true in so many milliseconds. */
async function within(event: Promise<true>, milliseconds: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => timer = setTimeout(() => resolve(false), milliseconds));
  return await Promise.race([event, late]).finally(() => clearTimeout(timer));
}

/** Undefined for a packet that is no answer to the question. */
function readAnswer(packet: Uint8Array, id: number): DnsAnswer | undefined {
  try {
    const message: DnsMessage = dnsPacket.decode(packet);
    if (message.id !== id) return undefined;
    const record = message.answers?.find(({ type }) => type === "A");
    return { status: message.rcode ?? "NOERROR", address: record ? String(record.data) : null };
  } catch {
    return undefined;
  }
}
