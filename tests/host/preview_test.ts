/** What a push would do to a host that was captured, looked at through a runner that only answers. */
import { assertEquals } from "@std/assert";
import type { HostConfig } from "../../lib/fleet.ts";
import { CAPABILITIES_FILE, CURRENT_LINK, KEYS_FILE } from "../../lib/host/paths.ts";
import { BASELINE_FILE, EXECUTABLE } from "../../lib/host/paths.ts";
import { preview, type PreviewRequest, readBasis } from "../../lib/host/preview.ts";
import { parseHostConfig } from "../../lib/host_config.ts";
import { type HostInput, wantedNetwork } from "../../lib/net/wanted.ts";
import { keyFile } from "../../lib/net/wireguard.ts";
import { ETC_DIR } from "../../lib/render/dnsmasq.ts";
import { renderFiles } from "../../lib/render/files.ts";
import { MAIN_UNIT, UNIT_DIR } from "../../lib/render/units.ts";
import type { Output, Runner, Step } from "../../lib/step.ts";
import { isEmpty } from "../../lib/ui/plan.ts";
import { readCaptured } from "../net/captured.ts";
import { keyOf } from "../net/fixtures.ts";

const CAPTURED = new URL("../net/captured/debian13.json", import.meta.url).pathname;
const stored = JSON.parse(Deno.readTextFileSync(CAPTURED)) as HostInput;
/** As it lies on a host. */
const input = { ...stored, config: parseHostConfig(stored.config) };
const { text, files } = readCaptured("debian13");
const OWN = input.config.hosts.find(({ id }) => id === input.config.self)!.publicKey!;

/** Everything on the host as the last push has left it. */
function filesOf(): Map<string, string> {
  const rendered = renderFiles(input);
  const firewall = { path: `${ETC_DIR}/nftables.nft`, content: wantedNetwork(input).firewall.text };
  return new Map([
    ...files,
    ...rendered.map(({ path, content }) => [path, content ?? ""] as const),
    [BASELINE_FILE, JSON.stringify(input.baseline)],
    [CAPABILITIES_FILE, JSON.stringify(input.capabilities)],
    [`${CURRENT_LINK}/config.json`, JSON.stringify(input.config)],
    [`${CURRENT_LINK}/files.json`, JSON.stringify([...rendered, firewall])],
    ["/etc/os-release", 'ID=debian\nVERSION_ID="13"\n'],
    [`${UNIT_DIR}/multi-user.target.wants/${MAIN_UNIT}`, ""],
    [keyFile(OWN), "the private key"],
  ]);
}

/** Answers from the files and the captured text, and remembers what was read; whoever writes fails. */
class Answering implements Runner {
  readonly read: string[] = [];
  constructor(readonly files: ReadonlyMap<string, string>, readonly modes = "") {}

  run({ title, argv }: Step): Promise<Output> {
    return Promise.resolve({ code: 0, stdout: this.#answer(title, argv), stderr: "" });
  }

  #answer(title: string, argv: readonly string[]): string {
    switch (title) {
      case "look at the own key":
        return `${OWN}\n`;
      case "look for the private key":
        return argv.slice(4).map((path) => `${this.files.has(path) ? "yes" : "no"}\n`).join("");
      case "look for programs":
        return argv.slice(4).map((name) => `/usr/bin/${name}\n`).join("");
      case "look at the network":
        return `${text}\n@@modes\n${this.modes}`;
    }
    throw new Error(`Cannot answer "${title}"; expected a question that a plan asks`);
  }

  readFile(path: string): Promise<string | undefined> {
    this.read.push(path);
    return Promise.resolve(this.files.get(path));
  }

  async readFiles(paths: readonly string[]): Promise<ReadonlyMap<string, string | undefined>> {
    const texts = await Promise.all(paths.map((path) => this.readFile(path)));
    return new Map(paths.map((path, index) => [path, texts[index]]));
  }

  readLink(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  list(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  writeFile(): Promise<void> {
    throw new Error("Cannot write while looking; expected no change");
  }
}

async function previewOf(runner: Answering, more: Partial<PreviewRequest> = {}) {
  const request = {
    config: stored.config,
    settled: input.config.hosts.map(({ id }) => id),
    sendsExecutable: false,
    reboots: false,
  };
  return await preview(runner, await readBasis(runner, 22), { ...request, ...more });
}

Deno.test("preview: nothing to do on a host as the last push has left it", async () => {
  const found = await previewOf(new Answering(filesOf()));
  assertEquals([found.files, found.steps.map(({ title }) => title)], [[], []]);
  assertEquals(isEmpty(found), true);
});

Deno.test("preview: the current generation edited by hand, or gone, means a new one and nothing else", async () => {
  const edited = filesOf().set(
    `${CURRENT_LINK}/config.json`,
    JSON.stringify({ ...input.config, access: "none" }),
  );
  const gone = filesOf();
  gone.delete(`${CURRENT_LINK}/config.json`);
  for (const files of [edited, gone]) {
    const { newGeneration, steps, files: changes } = await previewOf(new Answering(files));
    assertEquals([newGeneration, steps, changes], [true, [], []]);
  }
});

Deno.test("preview: an executable that is sent anew gets its mode by that", async () => {
  const titles = async (sendsExecutable: boolean) => {
    const { steps } = await previewOf(new Answering(filesOf(), `700 0:0 ${EXECUTABLE}\n`), {
      sendsExecutable,
    });
    return steps.map(({ title }) => title);
  };
  assertEquals(await titles(true), []);
  assertEquals(await titles(false), [`set mode of ${EXECUTABLE} from 700 to 755`]);
});

Deno.test("preview: old keys are forgotten, but for those of a host that the push does not reach", async () => {
  const other = input.config.hosts.find(({ id }) => id !== input.config.self)!;
  const hosts = { [other.id]: [keyOf(99), other.publicKey], 999: [keyOf(98)] };
  const files = filesOf().set(KEYS_FILE, JSON.stringify({ schema: 1, hold: OWN, hosts }));
  const titles = async (settled: readonly number[]) =>
    (await previewOf(new Answering(files), { settled })).steps.map(({ title }) => title);
  assertEquals(await titles([input.config.self, other.id]), []);
  assertEquals(await titles([input.config.self]), [
    "start mobula-follow.service",
    `set WireGuard peer ${other.hostname}`,
  ]);
});

Deno.test("readBasis: the host's key as long as its private half is there, which nobody reads", async () => {
  const runner = new Answering(filesOf());
  const { key, underlayMtu, fleetMtu } = await readBasis(runner, 22);
  assertEquals([key, underlayMtu, fleetMtu], [OWN, input.baseline.mtu, input.config.underlayMtu]);
  assertEquals(runner.read.filter((path) => path.endsWith(".key")), []);
  const files = filesOf();
  files.delete(keyFile(OWN));
  assertEquals((await readBasis(new Answering(files), 22)).key, undefined);
});

Deno.test("preview: a peer whose key is still to be made is a change", async () => {
  const hosts: HostConfig["hosts"] = input.config.hosts.map((host) =>
    host.id === input.config.self ? host : { ...host, publicKey: `(new key of ${host.hostname})` }
  );
  const found = await previewOf(new Answering(filesOf()), { config: { ...input.config, hosts } });
  assertEquals(found.newGeneration, true);
  assertEquals(found.steps.map(({ title }) => title), ["remove 1 WireGuard peer", "set WireGuard peer beta"]);
});
