import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { callHost, type Executor } from "../../lib/deploy/host_call.ts";
import { HostError } from "../../lib/errors.ts";

/** A connection on which the host says these lines. */
function saying(lines: readonly string[], { code = 0, stderr = "" } = {}): Executor & { asked: unknown[] } {
  const asked: unknown[] = [];
  return {
    asked,
    exec(argv, options) {
      asked.push([argv, options?.stdin]);
      lines.forEach((line) => options?.onLine?.(line));
      return Promise.resolve({ code, stdout: "", stderr });
    },
  };
}

const RESULT = '{"event":"result","result":{"generation":7}}';

Deno.test("callHost: asks by JSON on standard input, tells steps, gives the result", async () => {
  const ssh = saying([
    "a banner",
    '{"event":"step","title":"one"}',
    '{"event":"step","title":"two"}',
    RESULT,
  ]);
  const steps: string[] = [];
  assertEquals(await callHost(ssh, "confirm", {}, { onStep: (title) => steps.push(title) }), {
    generation: 7,
  });
  assertEquals(steps, ["one", "two"]);
  assertEquals(ssh.asked, [[["/opt/mobula/bin/mobula", "host", "confirm"], "{}\n"]]);
});

Deno.test("callHost: the host's own error is a HostError with its words", async () => {
  const ssh = saying(
    ['{"event":"error","kind":"CommandError","message":"Cannot install packages: E: gone"}'],
    { code: 1 },
  );
  const error = await assertRejects(() => callHost(ssh, "confirm", {}), HostError);
  assertEquals(error.message, "Cannot install packages: E: gone");
});

Deno.test("callHost: no answer and an answer of another shape say what came instead", async () => {
  const none = await assertRejects(
    () => callHost(saying([], { code: 127, stderr: "sh: mobula: not found" }), "confirm", {}),
    HostError,
  );
  assertMatch(none.message, /Cannot confirm host: no answer, exit code 127:\n {2}sh: mobula: not found/);
  const other = saying(['{"event":"result","result":{"generation":"seven"}}']);
  assertMatch(
    (await assertRejects(() => callHost(other, "confirm", {}), HostError)).message,
    /another shape.*generation/s,
  );
});

Deno.test("callHost: a probe's answer arrives whole", async () => {
  const result = {
    pings: [1.5, null],
    names: ["10.31.128.2"],
    capabilities: { wireguard: "kernel", datapath: "system" },
    clock: 2,
    egress: "10.31.0.3",
    paths: [{ name: "mo-path-2", up: true, held: true, over: 3 }, { name: "mo-t-2", up: false }],
  };
  const line = JSON.stringify({ event: "result", result });
  assertEquals(await callHost(saying([line]), "probe", { pings: [], names: [] }), result);
});
