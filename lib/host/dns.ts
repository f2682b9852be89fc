/**
 * Asks one name server for one name. The system's resolver would look into /etc/hosts first, where a host is often its own
 * 127.0.1.1. Effects: sends UDP packets to the server it is given.
 */
import { createSocket } from "node:dgram";
import { Buffer } from "node:buffer";
import dnsPacket from "dns-packet";

/** The parts of a decoded DNS message (RFC 1035) that are needed here. */
interface DnsMessage {
  readonly id?: number;
  readonly answers?: readonly { readonly type: string; readonly data: unknown }[];
}

/** Milliseconds after which a question is asked again. */
const RETRY = 500;

/** The first A record that `server` has for `name`; null if it has none, or says nothing within `patience` milliseconds. */
export function queryAddress(name: string, server: string, patience: number): Promise<string | null> {
  const id = crypto.getRandomValues(new Uint16Array(1))[0] ?? 0;
  const question: Buffer = dnsPacket.encode({
    type: "query",
    id,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ type: "A", name }],
  });
  const socket = createSocket("udp4");
  const timers: ReturnType<typeof setTimeout>[] = [];
  return new Promise<string | null>((resolve) => {
    const ask = () => socket.send(question, 53, server, () => {});
    timers.push(setInterval(ask, RETRY), setTimeout(() => resolve(null), patience));
    socket.on("error", () => resolve(null));
    socket.on("message", (packet) => {
      const answer = firstAddress(packet, id);
      if (answer !== undefined) resolve(answer);
    });
    ask();
  }).finally(() => {
    // At once: on a busy host a timer that is due comes before the socket says that it is closed, and must not use it.
    for (const timer of timers) clearTimeout(timer);
    socket.close();
  });
}

/** Undefined for a packet that is no answer to the question. */
function firstAddress(packet: Uint8Array, id: number): string | null | undefined {
  try {
    const message: DnsMessage = dnsPacket.decode(Buffer.from(packet));
    if (message.id !== id) return undefined;
    const record = message.answers?.find(({ type }) => type === "A");
    return record ? String(record.data) : null;
  } catch {
    return undefined;
  }
}
