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
  const timers: ReturnType<typeof setTimeout>[] = [];
  let isOpen = true;
  return await new Promise<DnsAnswer | undefined>((resolve) => {
    // Of two timers that are due together, the second is called even where the first has cleared it.
    const ask = () => isOpen && socket.send(question, 53, server, () => {});
    timers.push(setInterval(ask, RETRY), setTimeout(() => resolve(undefined), patience));
    socket.on("error", () => resolve(undefined));
    socket.on("message", (packet) => {
      const answer = readAnswer(packet, id);
      if (answer !== undefined) resolve(answer);
    });
    ask();
  }).finally(() => {
    timers.forEach(clearInterval);
    isOpen = false;
    socket.close();
  });
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
