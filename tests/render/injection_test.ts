/** No string of any configuration value that is accepted can add a line or a command to anything that is rendered. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { parseFleet } from "../../lib/config/parse_fleet.ts";
import { ConfigError, HostError } from "../../lib/errors.ts";
import type { Fleet, HostConfig } from "../../lib/fleet.ts";
import { parseHostConfig } from "../../lib/host_config.ts";
import { networkSteps } from "../../lib/net/steps.ts";
import { type HostInput, wantedNetwork } from "../../lib/net/wanted.ts";
import { renderFiles } from "../../lib/render/files.ts";
import { blankSeen, inputFor, keyOf, type Mode, MODES } from "../net/fixtures.ts";

const HOSTS_FILE = "/opt/mobula/etc/hosts";
const KEY = keyOf(7);

/** Good values, also with something in or around them that would be harmful in a file, a shell or a command line. */
function nearly(...good: readonly string[]): fc.Arbitrary<string> {
  const bad = fc.oneof(
    fc.constantFrom(
      "\n",
      "\r",
      "\n\n10.31.0.9 evil",
      " ",
      "\t",
      "\0",
      ";",
      "|",
      "&",
      "$(id)",
      "`id`",
      "${x}",
    ),
    fc.constantFrom(
      "'",
      '"',
      "\\",
      "\\\n",
      "#",
      "-",
      "--",
      "%",
      "*",
      "/",
      "\u2028",
      "\u0085",
      "{",
      "}",
      "=",
      ":",
    ),
    fc.string({ unit: "binary", maxLength: 3 }),
    fc.stringMatching(/^[A-Za-z0-9.-]{1,3}$/),
  );
  return fc.constantFrom(...good).chain((text) =>
    fc.oneof(
      { weight: 2, arbitrary: fc.constant(text) },
      fc.tuple(fc.nat(text.length), bad).map(([at, extra]) => text.slice(0, at) + extra + text.slice(at)),
    )
  );
}

const values = fc.record({
  addresses: fc.tuple(nearly("198.51.100.2"), nearly("203.0.113.7", "192.168.1.9")),
  names: fc.tuple(nearly("alpha", "a.example.com"), nearly("beta", "xn--bcher-kva.example"), nearly("wiki")),
  extra: nearly("10.31.200.1", "10.31.128.77"),
  wire: nearly("10.30.128.1/32", "10.30.255.254/32"),
  key: nearly(KEY),
  mode: fc.constantFrom(...Object.keys(MODES) as Mode[]),
});
type Values = typeof values extends fc.Arbitrary<infer T> ? T : never;

const PLAIN: Values = {
  addresses: ["198.51.100.2", "203.0.113.7"],
  names: ["one", "two", "three"],
  extra: "10.31.200.1",
  wire: "10.30.128.1/32",
  key: KEY,
  mode: "userspace",
};

function fleetFrom({ addresses, names, extra, wire, key }: Values): Fleet | undefined {
  const hosts = Object.fromEntries(
    addresses.map((
      address,
      index,
    ) => [address, { host_id: index + 2, hostname: names[index], mobula_access: "auto" }]),
  );
  const source = (file: string, value: unknown) => ({ file, text: JSON.stringify(value) });
  try {
    return parseFleet({
      hostsYml: source("hosts.yml", { all: { hosts } }),
      extraHostsYml: source("extra_hosts.yml", { extra_hosts: { [extra]: names[2] } }),
      extraWiresYml: source("extra_wires.yml", { extra_wires: { [wire]: key } }),
    });
  } catch (error) {
    if (error instanceof ConfigError) return undefined;
    throw error;
  }
}

/** The host's own address and card stay the same: what they may be is tested where they are read. */
function inputOf(fleet: Fleet, mode: Mode): HostInput {
  return { ...inputFor(fleet, 2, mode), baseline: inputFor(plainFleet, 2, mode).baseline };
}

const plainFleet = fleetFrom(PLAIN)!;

/** The WireGuard peers are rendered for the standard input of `wg`. */
function wireguardLines(input: HostInput): string[] {
  const steps = networkSteps(wantedNetwork(input), blankSeen(input));
  return steps.find(({ argv }) => argv[1] === "addconf")?.stdin?.split("\n") ?? [];
}

const PEER_LINES = [
  /^\[Peer\]$/,
  /^PublicKey = [A-Za-z0-9+/]{43}=$/,
  /^AllowedIPs = [\d.]+\/32, [\d.]+\/32$/,
  /^Endpoint = [\d.]+:51820$/,
  /^$/,
  /^\[Peer\]$/,
  /^PublicKey = [A-Za-z0-9+/]{43}=$/,
  /^AllowedIPs = [\d.]+\/32$/,
  /^$/,
];

/** Names, keys and addresses of others stand in the hosts file and in the peers, in fixed places, and nowhere else. */
function checkRendered(input: HostInput, mode: Mode): void {
  const reference = renderFiles(inputOf(plainFleet, mode));
  const files = renderFiles(input);
  assertEquals(files.map(({ path }) => path), reference.map(({ path }) => path));
  for (const [index, { path, content }] of files.entries()) {
    if (path !== HOSTS_FILE) assertEquals(content, reference[index]?.content);
  }
  const [header, ...names] = files.find(({ path }) => path === HOSTS_FILE)?.content?.split("\n") ?? [];
  assertEquals(header, "# Made by mobula; changed by the next push.");
  assertEquals(names.length, 4);
  for (const line of names.slice(0, -1)) {
    assertMatch(line, /^10\.31(\.\d{1,3}){2} [A-Za-z0-9][A-Za-z0-9.-]*$/);
  }
  assertEquals(names.at(-1), "");
  const peers = wireguardLines(input);
  assertEquals(peers.length, PEER_LINES.length);
  peers.forEach((line, index) => assertMatch(line, PEER_LINES[index] ?? /^$/));
  const { firewall } = wantedNetwork(input);
  assertEquals(firewall, wantedNetwork(inputOf(plainFleet, mode)).firewall);
}

Deno.test("renderFiles: whatever the configuration's texts are, what is accepted adds no line and no word", () => {
  let accepted = 0;
  fc.assert(
    fc.property(values, (values) => {
      const fleet = fleetFrom(values);
      if (!fleet) return;
      accepted++;
      checkRendered(inputOf(fleet, values.mode), values.mode);
    }),
    { numRuns: 3000 },
  );
  assert(accepted > 50, `only ${accepted} were accepted`);
});

Deno.test("renderFiles: nor do texts that only reach the host's own check", () => {
  const plain = inputOf(plainFleet, "userspace").config;
  const changes = fc.record({
    hostname: nearly("alpha", "a.example.com"),
    address: nearly("203.0.113.7"),
    publicKey: nearly(KEY),
    extra: nearly("10.31.200.1"),
    wire: nearly("10.30.128.1"),
  });
  let accepted = 0;
  fc.assert(
    fc.property(changes, ({ hostname, address, publicKey, extra, wire }) => {
      const [own, other] = plain.hosts;
      const json = {
        ...plain,
        hosts: [own, { ...other, hostname, address }],
        extraHosts: [{ address: extra, hostname: "wiki" }],
        extraWires: [{ address: wire, publicKey }],
      };
      let config: HostConfig;
      try {
        config = parseHostConfig(json);
      } catch (error) {
        assert(error instanceof HostError);
        return;
      }
      accepted++;
      checkRendered({ ...inputOf(plainFleet, "userspace"), config }, "userspace");
    }),
    { numRuns: 2000 },
  );
  assert(accepted > 50, `only ${accepted} were accepted`);
});

Deno.test("renderFiles: the files of a fleet have one line for each host and each name", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 40 }), fc.nat(10), (hosts, extras) => {
    const input = inputOf(plainFleet, "kernel");
    const config: HostConfig = {
      ...input.config,
      hosts: Array.from({ length: hosts }, (_, index) => ({
        address: `203.0.113.${index + 1}`,
        id: index + 2,
        hostname: `host-${index}`,
      })),
      extraHosts: Array.from({ length: extras }, (_, index) => ({
        address: `10.31.200.${index + 1}`,
        hostname: `extra-${index}`,
      })),
    };
    const text = renderFiles({ ...input, config }).find(({ path }) => path === HOSTS_FILE)?.content ?? "";
    assertEquals(text.split("\n").length, hosts + extras + 2);
  }));
});

Deno.test("renderFiles: sorted, every path once, text with a last line break", () => {
  for (const mode of Object.keys(MODES) as Mode[]) {
    const files = renderFiles(inputOf(plainFleet, mode));
    const paths = files.map(({ path }) => path);
    assertEquals(paths, [...new Set(paths)].sort());
    for (const { path, content } of files) {
      assertMatch(path, /^\/(etc|opt\/mobula)\/[\w./-]+$/);
      assert(content?.endsWith("\n") && !content.includes("undefined"), path);
    }
  }
});
