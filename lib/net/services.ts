/**
 * What listens on a host: a read-only piece of a script, and the parser of what it says. Pure; the script runs elsewhere.
 */
import { WIREGUARD_PORT } from "../address.ts";
import type { Service } from "../facts.ts";

/** One socket a line, in the words of `ss`, or where there is none in those of /proc/net behind the file's name. */
export const SERVICES_SCRIPT = `if command -v ss >/dev/null 2>&1; then ss -H -lntup 2>/dev/null; else
  for file in tcp udp tcp6 udp6; do sed "s/^/$file /" "/proc/net/$file" 2>/dev/null; done |
    awk '$5 == "0A" || $5 == "07"'
fi`;

/** What is external on the host. */
export interface External {
  readonly interface?: string;
  /** With or without the length of the prefix. */
  readonly addresses: readonly string[];
}

/** One socket that waits for somebody. */
interface Listener {
  readonly protocol: Service["protocol"];
  readonly port: number;
  /** `*` for all addresses of both families. */
  readonly address: string;
  readonly link?: string;
  readonly program?: string;
}

/** Linux's default `ip_local_port_range`: a program's UDP socket there is a question that waits for its answer. */
const EPHEMERAL = [32768, 60999] as const;
/** DHCP's clients, and names on the local link (mDNS, LLMNR): nobody outside asks there. */
const NO_SERVICE = new Set(["68/udp", "546/udp", "5353/udp", "5355/udp", "5355/tcp"]);
/** What the kernel keeps of a program's name. */
const MAX_NAME = 15;

/** The script's lines → what answers at the external addresses, by port; loopback and other interfaces are left out. */
export function parseServices(lines: readonly string[], external: External): Service[] {
  const services = new Map<string, Service>();
  for (const line of lines) {
    const listener = parseSs(line) ?? parseProc(line);
    const reach = listener && reachOf(listener, external);
    if (!reach || !isService(listener)) continue;
    const { protocol, port } = listener;
    const known = services.get(`${port}/${protocol}`);
    const program = known?.program ?? listener.program;
    services.set(`${port}/${protocol}`, {
      protocol,
      port,
      ...(program === undefined ? {} : { program }),
      reach: known ? wider(known.reach, reach) : reach,
    });
  }
  return [...services.values()].sort((a, b) =>
    a.port - b.port || (a.protocol < b.protocol ? -1 : Number(a.protocol > b.protocol))
  );
}

/** `udp UNCONN 0 0 127.0.0.1%lo:53 0.0.0.0:* users:(("named",pid=7,fd=3))` */
function parseSs(line: string): Listener | undefined {
  const [protocol, state, , , local = ""] = line.trim().split(/\s+/);
  const [, address, link, port] = /^(.+?)(?:%([^:]+))?:(\d+)$/.exec(local) ?? [];
  if (protocol !== "tcp" && protocol !== "udp" || !address || state !== "LISTEN" && state !== "UNCONN") {
    return;
  }
  const name = / users:\(\("(.*?)",pid=/.exec(line)?.[1];
  return {
    protocol,
    port: Number(port),
    // In brackets: "*" is both families, "[::]" IPv6 alone.
    address: address.replace(/^\[(.*)\]$/, "$1"),
    ...(link ? { link } : {}),
    ...(name ? { program: clean(name) } : {}),
  };
}

/** `tcp6 0: 00000000000000000000000000000000:0050 … 0A …`: words of 32 bits in the machine's order. */
function parseProc(line: string): Listener | undefined {
  const [, protocol, six, hex = "", port = ""] =
    /^(tcp|udp)(6?)\s+\d+: ((?:[0-9A-F]{8}){1,4}):([0-9A-F]{4}) /.exec(line.trim()) ?? [];
  if (protocol !== "tcp" && protocol !== "udp") return;
  const bytes = (hex.match(/.{8}/g) ?? []).map((word) => (word.match(/../g) ?? []).reverse()).flat();
  const address = six === "" ? bytes.map((byte) => parseInt(byte, 16)).join(".") : renderIpv6(bytes);
  return { protocol, port: parseInt(port, 16), address };
}

/** Whether a socket takes IPv6 alone is not told there: nothing that may be reachable is left out. */
function renderIpv6(bytes: readonly string[]): string {
  const text = bytes.join("").toLowerCase();
  if (/^0+$/.test(text)) return "*";
  if (/^0+1$/.test(text)) return "::1";
  const mapped = /^0{20}ffff/.test(text);
  return mapped
    ? bytes.slice(12).map((byte) => parseInt(byte, 16)).join(".")
    : text.match(/.{4}/g)?.join(":") ?? "";
}

/** How somebody outside reaches the socket, if at all. */
function reachOf({ address, link }: Listener, external: External): Service["reach"] | undefined {
  if (link !== undefined && link !== external.interface) return undefined;
  const own = external.addresses.map((one) => one.split("/")[0]);
  const plain = address.replace(/^::ffff:(?=\d+\.)/, "");
  if (own.includes(plain) && !plain.includes(":")) return "address";
  if (plain === "*" || plain === "0.0.0.0") return link === undefined ? "all" : "address";
  // Global addresses, RFC 4291.
  return plain === "::" || /^[23][0-9a-f]{3}:/i.test(plain) ? "ipv6" : undefined;
}

function wider(a: Service["reach"], b: Service["reach"]): Service["reach"] {
  return (["all", "address", "ipv6"] as const).find((reach) => reach === a || reach === b) ?? a;
}

function isService({ protocol, port, program }: Listener): boolean {
  if (protocol === "udp" && (port === WIREGUARD_PORT || isEphemeral(port) && program !== undefined)) {
    return false;
  }
  return port > 0 && !NO_SERVICE.has(`${port}/${protocol}`);
}

function isEphemeral(port: number): boolean {
  return port >= EPHEMERAL[0] && port <= EPHEMERAL[1];
}

/** A program calls itself what it likes, also something that a terminal would obey. */
function clean(name: string): string {
  return name.replace(/[^\x20-\x7e]/g, "?").slice(0, MAX_NAME);
}
