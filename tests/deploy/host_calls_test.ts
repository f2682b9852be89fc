import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { HostCalls, type Reach } from "../../lib/deploy/host_calls.ts";
import type { ExecOptions } from "../../lib/deploy/ssh.ts";
import { HostError, TransportError } from "../../lib/errors.ts";
import type { Output } from "../../lib/step.ts";

/** One line that a session was sent. */
interface Asked {
  readonly id: number;
  readonly verb: string;
}

/** A stand-in of a host's connection: a test reads what the session was sent and says what comes back. */
class FakeReach implements Reach {
  connected = true;
  connections = 1;
  readonly started: (readonly string[])[] = [];
  readonly asked: Asked[] = [];
  say: (event: unknown) => void = () => {};
  end: (output: Output) => void = () => {};
  fail: (error: Error) => void = () => {};

  exec(argv: readonly string[], { stdin, onLine, signal }: ExecOptions = {}): Promise<Output> {
    this.started.push(argv);
    const { promise, resolve, reject } = Promise.withResolvers<Output>();
    this.say = (event) => onLine?.(typeof event === "string" ? event : JSON.stringify(event));
    this.end = resolve;
    this.fail = reject;
    signal?.addEventListener("abort", () => reject(new TransportError("no end in time", { retry: true })));
    if (stdin instanceof ReadableStream) this.#read(stdin);
    return promise;
  }

  async #read(stdin: ReadableStream<Uint8Array>): Promise<void> {
    for await (const chunk of stdin) this.asked.push(JSON.parse(new TextDecoder().decode(chunk)));
  }
}

/** A host with a session. */
function sessionOf(reach: FakeReach): HostCalls {
  const calls = new HostCalls(reach);
  calls.useSession();
  return calls;
}

/** Lets the session's input be read. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  await new Promise((resolve) => setTimeout(resolve, 0));
}

const SESSION = ["/opt/mobula/bin/mobula", "host", "session"];

Deno.test("HostCalls: one session answers calls that overlap, each with its own steps", async () => {
  const reach = new FakeReach();
  const calls = sessionOf(reach);
  const steps: string[] = [];
  const first = calls.call("confirm", {}, { onStep: (title) => steps.push(title) });
  const second = calls.call("extend", { seconds: 5 });
  await settled();
  assertEquals(reach.asked.map(({ id, verb }) => [id, verb]), [[1, "confirm"], [2, "extend"]]);
  reach.say("a banner");
  reach.say({ event: "ready" });
  reach.say({ event: "result", id: 2, result: { armed: true } });
  reach.say({ event: "step", id: 1, title: "one" });
  reach.say({ event: "result", id: 1, result: { generation: 7 } });
  assertEquals([await first, await second], [{ generation: 7 }, { armed: true }]);
  assertEquals(steps, ["one"]);
  assertEquals(reach.started, [SESSION]);
});

Deno.test("HostCalls: an error of one call does not end the session", async () => {
  const reach = new FakeReach();
  const calls = sessionOf(reach);
  const first = assertRejects(() => calls.call("confirm", {}), HostError, "Cannot confirm");
  await settled();
  reach.say({ event: "error", id: 1, kind: "HostError", message: "Cannot confirm: no" });
  await first;
  const second = calls.call("confirm", {});
  await settled();
  reach.say({ event: "result", id: 2, result: { generation: 7 } });
  assertEquals([await second, reach.started.length], [{ generation: 7 }, 1]);
});

Deno.test("HostCalls: a newer connection has a session of its own", async () => {
  const reach = new FakeReach();
  const calls = sessionOf(reach);
  reach.connections++;
  const call = calls.call("confirm", {});
  await settled();
  reach.say({ event: "result", id: 1, result: { generation: 7 } });
  await call;
  assertEquals(reach.started, [SESSION, SESSION]);
});

Deno.test("HostCalls: a session that ends without an answer is a HostError with what it printed", async () => {
  const reach = new FakeReach();
  const call = assertRejects(() => sessionOf(reach).call("confirm", {}), HostError);
  await settled();
  reach.end({ code: 137, stdout: "", stderr: "Killed" });
  assertMatch((await call).message, /^Cannot confirm host: no answer, exit code 137:\n {2}Killed$/);
});

Deno.test("HostCalls: a connection that is lost ends all calls; the next call starts a session", async () => {
  const reach = new FakeReach();
  const calls = sessionOf(reach);
  const lost = [calls.call("confirm", {}), calls.call("extend", { seconds: 5 })].map((call) =>
    assertRejects(() => call, TransportError)
  );
  await settled();
  reach.fail(new TransportError("gone", { retry: true }));
  await Promise.all(lost);
  const call = calls.call("confirm", {});
  await settled();
  reach.say({ event: "result", id: 1, result: { generation: 7 } });
  await call;
  assertEquals(reach.started.length, 2);
});

Deno.test("HostCalls: a call over its deadline is a TransportError, and its session is not used again", async () => {
  const reach = new FakeReach();
  const calls = sessionOf(reach);
  await assertRejects(() => calls.call("confirm", {}, { milliseconds: 1 }), TransportError);
  const call = calls.call("confirm", {});
  await settled();
  reach.say({ event: "result", id: 1, result: { generation: 7 } });
  await call;
  assertEquals(reach.started.length, 2);
});

Deno.test("HostCalls: an answer of another shape, or to no call, changes nothing", async () => {
  const reach = new FakeReach();
  const call = assertRejects(() => sessionOf(reach).call("confirm", {}), HostError, "another shape");
  await settled();
  reach.say({ event: "result", id: 9, result: { generation: 7 } });
  reach.say({ event: "result", id: 1, result: { generation: "seven" } });
  await call;
});

Deno.test("HostCalls: without a session each verb has a process of its own", async () => {
  const reach = new FakeReach();
  const calls = new HostCalls(reach);
  const call = calls.call("confirm", {});
  reach.say({ event: "result", result: { generation: 7 } });
  reach.end({ code: 0, stdout: "", stderr: "" });
  assertEquals(await call, { generation: 7 });
  assertEquals(reach.started, [["/opt/mobula/bin/mobula", "host", "confirm"]]);
});
