/**
 * The lab's parsers: frames, capture files, scan results, host orders. Pure.
 */
import { assertEquals, assertThrows } from "@std/assert";
import { parseHost } from "../../scripts/lab.ts";
import { type Frame, parseFrame, parsePcap, renderFrame } from "./capture.ts";
import { parseScan } from "./client.ts";

const FRAME: Frame = {
  to: "ff:ff:ff:ff:ff:ff",
  from: "02:00:00:00:00:0a",
  type: 0x88b5,
  payload: new Uint8Array([1, 2, 3]),
};

Deno.test("parseFrame: gives back what renderFrame was given", () => {
  for (const frame of [FRAME, { ...FRAME, vlan: 4094 }]) assertEquals(parseFrame(renderFrame(frame)), frame);
});

/** A capture file as tcpdump writes it, with these frames. */
function pcap(frames: readonly Frame[]): Uint8Array {
  const words = (...values: number[]) => new Uint8Array(new Uint32Array(values).buffer);
  const header = words(0xa1b2c3d4, 0x00040002, 0, 0, 262144, 1);
  const records = frames.map(renderFrame).flatMap((
    bytes,
  ) => [...words(0, 0, bytes.length, bytes.length), ...bytes]);
  return new Uint8Array([...header, ...records]);
}

Deno.test("parsePcap: reads every frame, leaves out one that is still being written", () => {
  const bytes = pcap([FRAME, { ...FRAME, vlan: 5 }]);
  assertEquals(parsePcap(bytes), [FRAME, { ...FRAME, vlan: 5 }]);
  assertEquals(parsePcap(bytes.subarray(0, bytes.length - 1)), [FRAME]);
  assertThrows(() => parsePcap(new Uint8Array(24)), Error, "expected a1b2c3d4");
});

Deno.test("parseScan: lists single ports and counts the others", () => {
  const xml = `<ports><extraports state="filtered" count="65533">
    <extrareasons reason="no-response" count="65533" proto="tcp"/></extraports>
    <port protocol="tcp" portid="22"><state state="open" reason="syn-ack" reason_ttl="64"/></port>
    <port protocol="udp" portid="53"><state state="open|filtered" reason="no-response" reason_ttl="0"/></port></ports>`;
  assertEquals(parseScan(xml), {
    ports: [
      { port: 22, protocol: "tcp", state: "open" },
      { port: 53, protocol: "udp", state: "open|filtered" },
    ],
    others: { filtered: 65533 },
  });
});

Deno.test("parseHost: name, address, suite and image", () => {
  assertEquals(parseHost("a=198.51.100.2"), {
    name: "a",
    address: "198.51.100.2",
    suite: undefined,
    image: undefined,
  });
  assertEquals(parseHost("a=198.51.100.2,bookworm,bare").image, "bare");
  assertThrows(() => parseHost("a=192.0.2.1"), Error, "expected NAME=198.51.100.N");
});
