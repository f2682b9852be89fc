/**
 * Frames on the wire: building, sending, and capturing them. Runs `socat` and `tcpdump` in a place of the lab.
 */
import type { Lab, Place } from "./lab.ts";
import { isAlive, must, start } from "./process.ts";
import { waitFor } from "./wait.ts";

/** An Ethernet frame, without its checksum. */
export interface Frame {
  readonly to: string;
  readonly from: string;
  /** EtherType, e.g. 0x88b5 for experiments (IEEE 802). */
  readonly type: number;
  readonly payload: Uint8Array;
  /** VLAN tag (IEEE 802.1Q), where there is one. */
  readonly vlan?: number;
}

/** A running capture. */
export interface Capture {
  /** Frames seen until now. */
  readonly frames: () => Frame[];
  /** Ends the capture and returns the frames seen. */
  readonly stop: () => Promise<Frame[]>;
}

const VLAN_TYPE = 0x8100;

/** Frame → bytes. */
export function renderFrame({ to, from, type, payload, vlan }: Frame): Uint8Array<ArrayBuffer> {
  const tag = vlan === undefined ? [] : [...word(VLAN_TYPE), ...word(vlan)];
  return new Uint8Array([...macBytes(to), ...macBytes(from), ...tag, ...word(type), ...payload]);
}

/** Bytes → frame. */
export function parseFrame(bytes: Uint8Array): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tagged = view.getUint16(12) === VLAN_TYPE;
  const head = { to: macText(bytes.subarray(0, 6)), from: macText(bytes.subarray(6, 12)) };
  if (!tagged) return { ...head, type: view.getUint16(12), payload: bytes.slice(14) };
  return { ...head, vlan: view.getUint16(14) & 0xfff, type: view.getUint16(16), payload: bytes.slice(18) };
}

function word(value: number): number[] {
  return [value >> 8, value & 255];
}

function macBytes(mac: string): number[] {
  return mac.split(":").map((part) => parseInt(part, 16));
}

function macText(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** Sends one frame out of an interface of the place. */
export async function sendFrame(place: Place, link: string, frame: Frame): Promise<void> {
  await must(place.enter(["socat", "-u", "STDIN", `INTERFACE:${link}`]), { stdin: renderFrame(frame) });
}

/** Bytes of a frame that are kept; each takes as many of tcpdump's buffer. */
const LONGEST = 10_000;
/** Kibibytes: a flood may be quicker than tcpdump for a moment. */
const BUFFER = 65_536;

/** Starts capturing incoming frames on an interface of the place; the filter is tcpdump's. */
export async function capture(lab: Lab, place: Place, link: string, filter = ""): Promise<Capture> {
  await Deno.mkdir(`${lab.directory}/captures`, { recursive: true });
  const file = `${lab.directory}/captures/${crypto.randomUUID()}.pcap`;
  // Straight to the file after each frame: what the kernel still holds back when tcpdump is stopped is lost. And as root: the directory is
  // not for others.
  const argv = [
    ...["tcpdump", "-n", "-i", link, "-Q", "in", "-Z", "root"],
    ...["--immediate-mode", "-s", String(LONGEST), "-B", String(BUFFER), "-U", "-w", file],
    ...filter.split(" ").filter(Boolean),
  ];
  const process = await start(place.enter(argv), { cgroup: lab.state.cgroup, log: `${file}.log` });
  const frames = () => parsePcap(Deno.readFileSync(file));
  await waitFor(`tcpdump on ${link}`, () => Deno.statSync(file).size >= PCAP_HEADER);
  const stop = async () => {
    if (isAlive(process)) Deno.kill(process.pid, "SIGINT");
    await waitFor("tcpdump to end", () => !isAlive(process), { intervalMs: 20 });
    return frames();
  };
  return { frames, stop };
}

const PCAP_HEADER = 24;
const PCAP_RECORD_HEADER = 16;

/** The frames of a capture file (pcap, the byte order of this machine, link type Ethernet); a record cut off at the end is left out. */
export function parsePcap(bytes: Uint8Array): Frame[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = view.getUint32(0, true);
  if (magic !== 0xa1b2c3d4) {
    throw new Error(`Cannot read the capture: it begins with ${magic.toString(16)}; expected a1b2c3d4`);
  }
  const frames: Frame[] = [];
  for (let at = PCAP_HEADER; at + PCAP_RECORD_HEADER <= bytes.length;) {
    const size = view.getUint32(at + 8, true);
    const begin = at + PCAP_RECORD_HEADER;
    at = begin + size;
    if (at <= bytes.length) frames.push(parseFrame(bytes.subarray(begin, at)));
  }
  return frames;
}
