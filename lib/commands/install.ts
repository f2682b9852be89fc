/**
 * `mobula install --local`: the code of a push, on the host itself and for it alone. Effects: changes this host; may write
 * `wireguard_pubkeys.yml` in the directory it was given.
 */
import { join } from "@std/path";
import type { HostPublicKey } from "../config/pubkeys.ts";
import { mergePubkeys, writePubkeysFile } from "../deploy/load.ts";
import { LOOK_SCRIPT, parseLook } from "../deploy/look.ts";
import { lockedHere } from "../deploy/push_lock.ts";
import { checksFor, probeRequest } from "../deploy/verify.ts";
import { preflight } from "../deploy/preflight.ts";
import { EXIT, HostError, UsageError } from "../errors.ts";
import { ownExecutable } from "../executable.ts";
import type { HostFacts } from "../facts.ts";
import type { Fleet, Host } from "../fleet.ts";
import { activate } from "../host/activate.ts";
import { confirm } from "../host/confirm.ts";
import type { Context } from "../host/context.ts";
import { hostContext } from "../host/local_context.ts";
import { EXECUTABLE } from "../host/paths.ts";
import { prepare } from "../host/prepare.ts";
import { probe } from "../host/probe.ts";
import { stage } from "../host/stage.ts";
import { status } from "../host/status.ts";
import { hostConfigFor } from "../host_config.ts";
import type { Runner } from "../step.ts";
import { writeLine } from "../ui/lines.ts";
import { type OutputOptions, progressFor } from "../ui/terminal.ts";
import { loadFleet } from "./load_fleet.ts";

/** What the command line asks of a local installation. */
export interface InstallOptions extends OutputOptions {
  readonly directory: string;
  readonly hostId?: number;
  readonly reinstall: boolean;
}

/** Milliseconds until an activation that goes on in the background has to be done. */
const ACTIVATE_PATIENCE = 120_000;
/** Milliseconds until the gateway has to answer. */
const PROOF_PATIENCE = 20_000;
/** Seconds: both, and something more. */
const CONFIRM_SECONDS = 180;

/** Installs and activates this host; gives the exit code. */
export async function installCommand(options: InstallOptions): Promise<number> {
  const hostsPath = join(options.directory, "hosts.yml");
  const loaded = await loadFleet(hostsPath);
  const { runner } = hostContext(() => {});
  const facts = await lookHere(runner);
  const self = findSelf(loaded.fleet, facts, options.hostId);
  const progress = progressFor({ ...options, verbose: true });
  const report = (title: string) => progress.step(self.hostname, title);
  const install = async () => {
    // What looked like an interrupted installation may have been one under way.
    const now = facts.state?.status === "installing" ? await lookHere(runner) : facts;
    for (const warning of judge(loaded.fleet, self, now, options)) progress.note(warning, self.hostname);
    return await installHere({ options, hostsPath, loaded, self, facts: now }, hostContext(report));
  };
  if (!facts.root) judge(loaded.fleet, self, facts, options);
  const { result, pubkeys } = await lockedHere({ fleet: hostsPath, verb: "install", report }, install);
  await progress.end();
  writeLine(
    options.json ? JSON.stringify(resultJson(result), null, 2) : renderResult(result, loaded.fleet, pubkeys),
  );
  return EXIT.ok;
}

/** What is known before anything is changed. */
interface Installation {
  readonly options: InstallOptions;
  readonly hostsPath: string;
  readonly loaded: Awaited<ReturnType<typeof loadFleet>>;
  readonly self: Host;
  readonly facts: HostFacts;
}

async function installHere(
  { options, hostsPath, loaded, self, facts }: Installation,
  context: Context,
): Promise<{ result: InstallResult; pubkeys: ReadonlyMap<string, HostPublicKey> }> {
  context.report("copy executable");
  await copyOwnExecutable();
  // The terminal may hang on the very interface that is about to move: the installation outlives it.
  Deno.addSignalListener("SIGHUP", () => {});
  const { publicKey, underlayMtu, fleetMtu = underlayMtu, newlyInstalled } = await prepare({
    // The others cannot be told of a new key from here.
    keys: "keep",
    ...pinned(self),
    reinstall: options.reinstall,
    sshPort: facts.sshPort,
  }, context);
  const pubkeys = mergePubkeys(
    loaded.fleet,
    loaded.pubkeys,
    new Map([[self.address, publicKey]]),
    new Date(),
  );
  const keyChanged = loaded.pubkeys.get(self.address)?.publicKey !== publicKey;
  if (keyChanged) await writePubkeysFile(hostsPath, pubkeys);

  const { generation } = await stage(
    { config: hostConfigFor(loaded.fleet, self.id, pubkeys, Math.min(underlayMtu, fleetMtu)) },
    context,
  );
  const { steps } = await activate({ generation, confirmSeconds: CONFIRM_SECONDS }, context);
  await awaitActivation(context);
  await proveGateway(self, context);
  await confirm({ generation }, context);
  return { result: { self, publicKey, keyChanged, newlyInstalled, generation, steps }, pubkeys };
}

async function lookHere(runner: Runner): Promise<HostFacts> {
  const sshPort = Deno.env.get("SSH_CONNECTION")?.split(" ").at(-1) ?? await listeningPort(runner);
  const argv = ["sh", "-s", sshPort];
  const { stdout } = await runner.run({ title: "look at host", argv, stdin: LOOK_SCRIPT });
  return parseLook(stdout);
}

/** The port of sshd where no SSH session tells it. */
async function listeningPort(runner: Runner): Promise<string> {
  const script =
    `sshd=$(command -v sshd || echo /usr/sbin/sshd); "$sshd" -T 2>/dev/null | sed -n 's/^port //p' | head -n 1`;
  const { stdout } = await runner.run({ title: "ask for sshd's port", argv: ["sh", "-c", script] });
  return /^\d+$/.test(stdout.trim()) ? stdout.trim() : "22";
}

/** Which host of the fleet this is: by external address, else by host name, else as told. */
export function findSelf(
  fleet: Fleet,
  facts: Pick<HostFacts, "addresses" | "hostname">,
  hostId?: number,
): Host {
  if (hostId !== undefined) {
    const told = fleet.hosts.find(({ id }) => id === hostId);
    if (told) return told;
    throw new UsageError(`Cannot be host ${hostId}: no such id in hosts.yml; expected one of ${ids(fleet)}`);
  }
  const own = new Set(facts.addresses.map(({ address }) => address.split("/")[0]));
  const byAddress = fleet.hosts.filter(({ address }) => own.has(address));
  const byName = fleet.hosts.filter(({ hostname }) => sameName(hostname, facts.hostname));
  const found = byAddress.length > 0 ? byAddress : byName;
  if (found.length === 1) return found[0]!;
  throw new UsageError(
    `Cannot find out which host this is: ${[...own].join(", ")}, named ${facts.hostname}, ` +
      `fit ${
        found.length === 0 ? "none" : "more than one"
      } of hosts.yml; expected exactly one. Say it with --host-id`,
  );
}

/** A host may be named in full in one place and in short in the other. */
function sameName(a: string, b: string): boolean {
  const [x, y] = [a.toLowerCase(), b.toLowerCase()];
  return x === y || x.split(".")[0] === y || x === y.split(".")[0];
}

function ids(fleet: Fleet): string {
  return fleet.hosts.map(({ id, hostname }) => `${id} (${hostname})`).join(", ");
}

/** Throws for what keeps the host from being installed; gives the warnings. */
function judge(fleet: Fleet, self: Host, facts: HostFacts, { reinstall }: InstallOptions): readonly string[] {
  const now = Date.now() / 1000;
  const problems = preflight(fleet, new Map([[self.id, facts]]), { reinstall, now });
  const errors = problems.filter(({ severity }) => severity === "error");
  if (errors.length > 0) {
    throw new HostError(errors.map(({ message }) => `${self.hostname}: ${message}`).join("\n"));
  }
  return problems.map(({ message }) => message);
}

function pinned({ pinnedKeys }: Host): { pinnedKeys?: { publicKey: string; privateKey: string } } {
  if (!pinnedKeys) return {};
  return { pinnedKeys: { publicKey: pinnedKeys.publicKey, privateKey: pinnedKeys.privateKey.reveal() } };
}

/** By rename: the file in place may be the very one that is running. */
export async function copyOwnExecutable(): Promise<void> {
  const { path } = ownExecutable();
  if (path === undefined) {
    throw new UsageError(
      "Cannot install from source: no executable; expected dist/mobula. Make it with the compile task",
    );
  }
  if (await isSameFile(path, EXECUTABLE)) return;
  const temporary = `${EXECUTABLE}.new`;
  await Deno.mkdir(EXECUTABLE.slice(0, EXECUTABLE.lastIndexOf("/")), { recursive: true });
  try {
    await Deno.copyFile(path, temporary);
    await Deno.chmod(temporary, 0o755);
    await Deno.rename(temporary, EXECUTABLE);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw new HostError(
      `Cannot copy mobula to ${EXECUTABLE}: ${error instanceof Error ? error.message : error}`,
    );
  }
}

async function isSameFile(a: string, b: string): Promise<boolean> {
  const [x, y] = await Promise.all([Deno.realPath(a), Deno.realPath(b).catch(() => undefined)]);
  return x === y;
}

/** An activation that moves the external interface goes on in a unit of its own. */
async function awaitActivation(context: Context): Promise<void> {
  const deadline = context.clock.now() + ACTIVATE_PATIENCE;
  while (true) {
    const { activation, error } = await status({}, context);
    if (activation === "done") return;
    if (activation === "failed" || activation === "rolledback") {
      throw new HostError(`Cannot activate network: ${error ?? "no reason given"}`);
    }
    if (context.clock.now() > deadline) {
      throw new HostError(
        `Cannot activate network: no end within ${ACTIVATE_PATIENCE / 1000} s; see "journalctl -u mobula"`,
      );
    }
    await context.clock.pause(300);
  }
}

/** The least that makes an installation one: its own gateway answers. Without it the host goes back by itself. */
async function proveGateway(self: Host, context: Context): Promise<void> {
  const request = probeRequest(checksFor(self, [self], []).filter(({ kind }) => kind === "gateway"));
  const deadline = context.clock.now() + PROOF_PATIENCE;
  while (true) {
    const { pings } = await probe(request, { ...context, report: () => {} });
    if (pings.every((roundTrip) => roundTrip !== null)) return;
    if (context.clock.now() > deadline) {
      throw new HostError(
        `Cannot confirm the installation: ${
          request.pings[0]?.address
        } does not answer; expected the gateway. ` +
          `The host goes back by itself within ${CONFIRM_SECONDS} s`,
      );
    }
    await context.clock.pause(500);
  }
}

interface InstallResult {
  readonly self: Host;
  readonly publicKey: string;
  readonly keyChanged: boolean;
  readonly newlyInstalled: boolean;
  readonly generation: number;
  readonly steps: readonly string[];
}

function resultJson(
  { self, publicKey, keyChanged, newlyInstalled, generation, steps }: InstallResult,
): unknown {
  return {
    ok: true,
    hostname: self.hostname,
    id: self.id,
    public_key: publicKey,
    public_key_changed: keyChanged,
    newly_installed: newlyInstalled,
    generation,
    steps,
  };
}

function renderResult(
  { self, publicKey, keyChanged, newlyInstalled }: InstallResult,
  fleet: Fleet,
  pubkeys: ReadonlyMap<string, HostPublicKey>,
): string {
  const unknown = fleet.hosts.filter(({ address }) => !pubkeys.has(address)).map(({ hostname }) => hostname);
  return [
    `${self.hostname} (id ${self.id}) is ${
      newlyInstalled ? "installed" : "up to date"
    }; its public key is ${publicKey}.`,
    ...keyChanged
      ? [
        "That key is new in wireguard_pubkeys.yml: the other hosts need the changed file before they talk to this one.",
      ]
      : [],
    ...unknown.length > 0
      ? [`Not in the mesh yet, because their keys are not known here: ${unknown.join(", ")}.`]
      : [],
  ].join("\n");
}
