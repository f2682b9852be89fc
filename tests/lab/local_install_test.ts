/**
 * `mobula install --local`: three hosts become one network with no deployer at all. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { parse, stringify } from "@std/yaml";
import { hostAddresses } from "../../lib/address.ts";
import { executable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { CommandResult, HostOptions, Lab } from "./lab.ts";
import { allInnerAddresses, resolveAt, unreached, waitForAnswers } from "./probes.ts";
import { expectCode, setStage } from "./proof.ts";
import { ask } from "./snapshot.ts";
import { waitFor } from "./wait.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
  { name: "gamma", address: "198.51.100.4", suite: "trixie", id: 256 },
];
const FILES = ["hosts.yml", "extra_hosts.yml", "extra_wires.yml"];
const DIRECTORY = "/root/fleet";
const PUBKEYS = `${DIRECTORY}/wireguard_pubkeys.yml`;

const { proof } = setStage<void>({ name: "local-install", hosts: HOSTS, prepare });

/** Brings the executable and the three files onto every host, by hand so to speak. */
async function prepare(lab: Lab): Promise<void> {
  const program = await Deno.readFile(await executable("compiled"));
  await writeInventory(lab, { extraHosts: { "10.31.200.1": "printer.example" } });
  await Promise.all(lab.state.hosts.map(async ({ name }) => {
    await put(lab, name, "/root/mobula", program);
    for (const file of FILES) {
      await put(lab, name, `${DIRECTORY}/${file}`, await Deno.readTextFile(`${lab.directory}/${file}`));
    }
  }));
}

const PUT = 'mkdir -p "${1%/*}"; cat >"$1"; chmod 755 "$1"';

async function put(lab: Lab, host: string, path: string, content: string | Uint8Array): Promise<void> {
  const { code, stderr } = await lab.exec(host, ["sh", "-euc", PUT, "sh", path], { stdin: content });
  assertEquals(code, 0, stderr);
}

/** Runs the installer on a host; where it lies and in which directory the files are does not matter. */
async function install(lab: Lab, host: string, ...args: readonly string[]): Promise<CommandResult> {
  return await lab.exec(host, ["/root/mobula", "install", "--local", DIRECTORY, ...args], {
    env: { NO_COLOR: "1" },
  });
}

async function readPubkeys(lab: Lab, host: string): Promise<Record<string, string>> {
  return parse(await ask(lab, host, ["cat", PUBKEYS])) as Record<string, string>;
}

proof("install --local: each host finds out which one it is, and tells its public key", async (lab) => {
  const results = await Promise.all(lab.state.hosts.map(({ name }) => install(lab, name)));
  for (const [index, { name, id, address }] of lab.state.hosts.entries()) {
    const result = results[index]!;
    expectCode(result, 0, `the installation of ${name}`);
    assertMatch(result.stdout, new RegExp(`^${name} \\(id ${id}\\) is installed; its public key is `, "m"));
    assertMatch(result.stdout, /Not in the mesh yet, because their keys are not known here: /);
    const [own] = Object.entries(await readPubkeys(lab, name));
    assertEquals(own?.[0], address);
    const { gateway, access } = hostAddresses(id);
    assertEquals(await unreached(lab.network(name), [gateway, access]), []);
  }
});

proof("install --local again, with everybody's public keys: the three are one network", async (lab) => {
  const keys = Object.assign(
    {},
    ...await Promise.all(lab.state.hosts.map(({ name }) => readPubkeys(lab, name))),
  );
  assertEquals(Object.keys(keys).length, HOSTS.length);
  await Promise.all(lab.state.hosts.map(({ name }) => put(lab, name, PUBKEYS, stringify(keys))));
  const results = await Promise.all(lab.state.hosts.map(({ name }) => install(lab, name)));
  for (const result of results) expectCode(result, 0, "the second installation");
  const addresses = allInnerAddresses(lab.state.hosts);
  for (const { name, id } of lab.state.hosts) {
    await waitForAnswers(`the network of ${name}`, () => lab.network(name), addresses, 20_000);
    assertEquals(
      await resolveAt(lab.network(name), hostAddresses(id).gateway, ["gamma", "printer.example"]),
      {
        gamma: hostAddresses(256).access,
        "printer.example": "10.31.200.1",
      },
    );
  }
});

proof("install --local a third time: nothing is left to do", async (lab) => {
  const result = await install(lab, "beta", "--json");
  expectCode(result, 0, "the third installation");
  const { ok, id, newly_installed, public_key_changed, steps } = JSON.parse(result.stdout);
  assertEquals({ ok, id, newly_installed, public_key_changed, steps }, {
    ok: true,
    id: 3,
    newly_installed: false,
    public_key_changed: false,
    steps: [],
  });
});

proof("install --local: the network is there again after a reboot", async (lab) => {
  await lab.reboot("beta");
  await waitForAnswers(
    "the network of beta",
    () => lab.network("beta"),
    allInnerAddresses(lab.state.hosts),
    60_000,
  );
});

/** From its first start after a boot the name server cannot be started for so many seconds. */
const AILING_SECONDS = 15;
const DROP_IN = "/etc/systemd/system/mobula-dnsmasq.service.d/sabotage.conf";
const AILING = `[Service]
ExecStartPre=/bin/sh -c 'mkdir -p /run/sabotage; [ -e /run/sabotage/first ] || date +%%s >/run/sabotage/first; \
  [ $(date +%%s) -ge $(($(cat /run/sabotage/first) + ${AILING_SECONDS})) ]'
`;

proof("install --local: a boot that fails is tried again until it succeeds", async (lab) => {
  await put(lab, "gamma", DROP_IN, AILING);
  // Nobody can reach the host before the second try: its network card is the last thing that is moved.
  await lab.reboot("gamma");
  const addresses = allInnerAddresses(lab.state.hosts);
  await waitForAnswers("the network of gamma", () => lab.network("gamma"), addresses, 60_000);
  const said = await ask(lab, "gamma", ["journalctl", "-b", "-o", "cat", "-u", "mobula.service"]);
  assertMatch(said, /mobula\.service: Failed with result 'exit-code'/);
  const state = ["systemctl", "is-active", "mobula.service"];
  await waitFor("the unit to say so", async () => (await ask(lab, "gamma", state)).trim() === "active");
  await ask(lab, "gamma", ["rm", "-r", DROP_IN.slice(0, DROP_IN.lastIndexOf("/"))]);
});

proof("install --local: a host that is none of hosts.yml is told to say which it is", async (lab) => {
  const text = await Deno.readTextFile(`${lab.directory}/hosts.yml`);
  const without = text.replace("198.51.100.3", "198.51.100.33").replace("hostname: beta", "hostname: other");
  assert(without !== text);
  await put(lab, "beta", "/root/elsewhere/hosts.yml", without);
  const argv = ["/root/mobula", "install", "--local", "/root/elsewhere"];
  const { code, stderr } = await lab.exec("beta", argv);
  assertEquals(code, 2);
  assertMatch(
    stderr,
    /Cannot find out which host this is: .*198\.51\.100\.3.*named beta.*Say it with --host-id/s,
  );
  const unknown = await lab.exec("beta", [...argv, "--host-id", "77"]);
  assertEquals(unknown.code, 2);
  assertMatch(unknown.stderr, /Cannot be host 77: no such id in hosts\.yml; expected one of 2 \(alpha\)/);
});
