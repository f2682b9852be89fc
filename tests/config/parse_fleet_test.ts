/** parseFleet: what is refused, with the whole message, and what is understood. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { MAX_PROBLEMS } from "../../lib/config/problems.ts";
import { parseFleet } from "../../lib/config/parse_fleet.ts";
import { ConfigError } from "../../lib/errors.ts";
import type { Fleet } from "../../lib/fleet.ts";
import { generateKeyPair } from "../../lib/keys.ts";

const KEY_A = "2jT2ySbIKKLVJdbTfKrKYOxHohNQehTPRqaoz4mX6j8=";
const KEY_B = "t+uM1TGLs1+EWgqCmS+f91uP9FwBCfgjWThDxn+MYwQ=";
/** A pair made for these tests. */
const PAIR = {
  publicKey: "cGD/H2khE3ljTvLVfiSnolPRc3FyZ/Y3fqd5y2pV92c=",
  privateKey: "0IwrqJh9GWOq83nwk6q+eobyrlyFB249vCooLd1b/l8=",
};

const ID = "a whole number from 1 to 32767";
const NAME = "a host name of letters, digits, hyphens and dots that does not end in a number";
const EXTERNAL = "an IPv4 address that other hosts can reach, outside of 10.30.0.0/16 and 10.31.0.0/16";
const KEY = "a WireGuard key (32 bytes in base64, 44 characters)";
const ACCESS = "an address inside 10.31.0.0/16, neither its first nor its last";
const FORWARD = "a port from 1 to 65535, or [external:]internal[/tcp or /udp] in quotes";
const WIRE = "an address inside 10.30.128.0/17 with /32 behind it";

/** An inventory with these lines below `hosts:`, one host on each. */
function hostsYml(...lines: string[]): string {
  return ["all:", "  hosts:", ...lines.map((line) => `    ${line}`), ""].join("\n");
}

const HOST = "198.51.100.2: {host_id: 2, hostname: alpha}";
const GOOD = hostsYml(HOST);

interface Texts {
  readonly hosts?: string;
  readonly extraHosts?: string;
  readonly extraWires?: string;
}

function parse({ hosts = GOOD, extraHosts, extraWires }: Texts): Fleet {
  return parseFleet({
    hostsYml: { file: "hosts.yml", text: hosts },
    extraHostsYml: extraHosts === undefined ? undefined : { file: "extra_hosts.yml", text: extraHosts },
    extraWiresYml: extraWires === undefined ? undefined : { file: "extra_wires.yml", text: extraWires },
  });
}

function messageOf(texts: Texts): string {
  return assertThrows(() => parse(texts), ConfigError).message;
}

/** A host whose entry holds `settings` besides an id and a name. */
function withSetting(settings: string): string {
  return hostsYml(`198.51.100.2: {host_id: 2, hostname: alpha, ${settings}}`);
}

function withName(name: string): Texts {
  return { hosts: hostsYml(`198.51.100.2: {host_id: 2, hostname: ${name}}`) };
}

function withId(id: string): Texts {
  return { hosts: hostsYml(`198.51.100.2: {host_id: ${id}, hostname: alpha}`) };
}

function withAddress(address: string): Texts {
  return { hosts: hostsYml(`${address}: {host_id: 2, hostname: alpha}`) };
}

function withVars(vars: string): Texts {
  return { hosts: `${GOOD}  vars: {${vars}}\n` };
}

const AT = "hosts.yml: all.hosts.198.51.100.2";

const REFUSED: Record<string, [Texts, ...string[]]> = {
  "an empty file": [{ hosts: "" }, "hosts.yml: found no content; expected a map with the key all"],
  "a file of comments": [{ hosts: "# x\n" }, "hosts.yml: found no content; expected a map with the key all"],
  "a list": [{ hosts: "- a\n" }, "hosts.yml: found a list; expected a map with the key all"],
  "a text": [{ hosts: "hello" }, 'hosts.yml: found "hello"; expected a map with the key all'],
  "a mistyped all": [
    { hosts: "al: {}" },
    "hosts.yml: al: unknown key; did you mean all?",
    "hosts.yml: all: missing; expected a map with hosts, and if wanted vars and children",
  ],
  "no hosts": [
    { hosts: "all: {hosts: {}}" },
    "hosts.yml: all.hosts: found no host; expected at least one, by its external IPv4 address",
  ],
  "nothing in all": [
    { hosts: "all:" },
    "hosts.yml: all.hosts: found no host; expected at least one, by its external IPv4 address",
  ],
  "hosts as a list": [
    { hosts: "all: {hosts: [a]}" },
    "hosts.yml: all.hosts: found a list; expected a map of hosts by external IPv4 address",
  ],
  "an unknown part of a group": [
    { hosts: `${GOOD}  child: {}\n  var: {}\n` },
    "hosts.yml: all.child: unknown key; expected hosts, vars or children",
    "hosts.yml: all.var: unknown key; did you mean vars?",
  ],

  "YAML that does not end": [
    { hosts: "all: [1" },
    "hosts.yml: line 2, column 1: not valid YAML (unexpected end of the stream within a flow collection)",
  ],
  "a key twice": [
    { hosts: hostsYml(HOST, HOST) },
    "hosts.yml: line 4, column 5: found the same key a second time; expected each key once",
  ],
  "a tab as indentation": [
    { hosts: "all:\n\thosts: {}" },
    "hosts.yml: line 2, column 1: found a tab in the indentation; expected spaces",
  ],
  "an Ansible Vault": [
    { hosts: withSetting('x: !vault "1"') },
    "hosts.yml: line 3, column 62: found an Ansible Vault value, which cannot be opened here; expected plain text",
  ],
  "an unknown tag": [
    { hosts: withSetting('x: !new "1"') },
    'hosts.yml: line 3, column 60: found the tag "!new"; expected a plain value',
  ],
  "two documents": [
    { hosts: `${GOOD}---\n${GOOD}` },
    "hosts.yml: line 4, column 1: not valid YAML (Found more than 1 document in the stream: expected a single document)",
  ],
  "nesting without end": [
    { hosts: "all: " + "[".repeat(20_000) },
    "hosts.yml: found lists or maps nested too deep; expected a plain inventory",
  ],
  "too much text": [
    { hosts: "#".repeat(10 * 1024 * 1024 + 1) },
    "hosts.yml: found 10485761 characters; expected at most 10485760",
  ],
  "a group inside of itself": [
    { hosts: `${GOOD}  children: &c {web: {children: *c}}\n` },
    "hosts.yml: all.children.web: found a group inside of itself; expected groups that end in hosts",
  ],

  "forward as one port": [
    { hosts: withSetting("forward: 443") },
    `${AT}.forward: found 443; expected a list of ports, such as [443, "8443:443/tcp", "53/udp"]`,
  ],
  "forwards that are no ports": [
    {
      hosts: withSetting('forward: [0, 65536, 1.5, "80:", "80/sctp", "http", ~, [80], "80 ", "1:2:3", "-1"]'),
    },
    ...["0", "65536", "1.5", '"80:"', '"80/sctp"', '"http"', "nothing", "a list", '"80 "', '"1:2:3"', '"-1"']
      .map((
        found,
        index,
      ) => `${AT}.forward.${index}: found ${found}; expected ${FORWARD}`),
  ],
  "forwards of ports that others have": [
    {
      hosts: withSetting(
        'forward: [443, "443:8443", 22, "51820/udp", "51820/tcp", "53/udp", 53, "2222:22", "53:5353/udp"]',
      ),
    },
    `${AT}.forward.1: found "443:8443"; expected another external port than 443/tcp, forward.0 has it`,
    `${AT}.forward.2: found 22; expected another external port than 22/tcp, SSH has it, which is always forwarded`,
    `${AT}.forward.3: found "51820/udp"; expected another external port than 51820/udp, the gateway's WireGuard has it`,
    `${AT}.forward.8: found "53:5353/udp"; expected another external port than 53/udp, forward.5 has it`,
  ],
  "a forward of SSH's port where it is another one": [
    { hosts: withSetting('ansible_port: 2222, forward: [22, "2222:22"]') },
    `${AT}.forward.1: found "2222:22"; expected another external port than 2222/tcp, SSH has it, which is always forwarded`,
  ],
  "a wrong forward in all.vars": [
    withVars("forward: [x]"),
    `hosts.yml: all.vars.forward.0: found "x"; expected ${FORWARD}`,
  ],
  "preserve_services as a list": [
    { hosts: withSetting("preserve_services: [80]") },
    `${AT}.preserve_services: found a list; expected yes or no`,
  ],
  "mistyped forwards": [
    { hosts: withSetting("forwards: [80], preserve_service: yes") },
    `${AT}.forwards: unknown setting; did you mean forward?`,
    `${AT}.preserve_service: unknown setting; did you mean preserve_services?`,
  ],

  "id 0": [withId("0"), `${AT}.host_id: found 0; expected ${ID}`],
  "id 32768": [withId("32768"), `${AT}.host_id: found 32768; expected ${ID}`],
  "id 1.5": [withId("1.5"), `${AT}.host_id: found 1.5; expected ${ID}`],
  "id -1": [withId("-1"), `${AT}.host_id: found -1; expected ${ID}`],
  "id not a number": [withId(".nan"), `${AT}.host_id: found NaN; expected ${ID}`],
  "id as text": [withId('"2"'), `${AT}.host_id: found "2"; expected ${ID}`],
  "id as a list": [withId("[2]"), `${AT}.host_id: found a list; expected ${ID}`],
  "id without a value": [withId("~"), `${AT}.host_id: found nothing; expected ${ID}`],
  "an empty host": [
    { hosts: hostsYml("198.51.100.2:") },
    `${AT}.host_id: missing; expected ${ID}`,
    `${AT}.hostname: missing; expected ${NAME}`,
  ],
  "a host as a text": [
    { hosts: hostsYml("198.51.100.2: alpha") },
    `${AT}: found "alpha"; expected a map of host_id and hostname`,
    `${AT}.host_id: missing; expected ${ID}`,
    `${AT}.hostname: missing; expected ${NAME}`,
  ],
  "the same id": [
    { hosts: hostsYml(HOST, "198.51.100.3: {host_id: 2, hostname: beta}") },
    "hosts.yml: all.hosts.198.51.100.3.host_id: found 2; expected an id of its own, all.hosts.198.51.100.2.host_id has it",
  ],
  "the same name in other letters": [
    { hosts: hostsYml(HOST, "198.51.100.3: {host_id: 3, hostname: ALPHA}") },
    'hosts.yml: all.hosts.198.51.100.3.hostname: found "ALPHA"; expected a host name of its own, ' +
    "all.hosts.198.51.100.2.hostname has it",
  ],
  "two hosts at one SSH address": [
    {
      hosts: hostsYml(
        "198.51.100.2: {host_id: 2, hostname: alpha, ansible_host: gate}",
        "198.51.100.3: {host_id: 3, hostname: beta, ansible_host: gate}",
      ),
    },
    'hosts.yml: all.hosts.198.51.100.3: found "gate"; expected an SSH address of its own, all.hosts.198.51.100.2 has it',
  ],
  "two ids for one host": [
    { hosts: `${GOOD}  children: {web: {hosts: {198.51.100.2: {host_id: 3}}}}\n` },
    "hosts.yml: all.children.web.hosts.198.51.100.2.host_id: found 3; expected 2, as in all.hosts.198.51.100.2.host_id",
  ],

  "a name with a newline": [withName('"a\\nb"'), `${AT}.hostname: found "a\\nb"; expected ${NAME}`],
  "a name that ends in a newline": [withName('"a\\n"'), `${AT}.hostname: found "a\\n"; expected ${NAME}`],
  "a name with a space": [withName('"a b"'), `${AT}.hostname: found "a b"; expected ${NAME}`],
  "a name with a command": [withName('"a;$(id)"'), `${AT}.hostname: found "a;$(id)"; expected ${NAME}`],
  "a name as a number": [withName("12"), `${AT}.hostname: found 12; expected ${NAME}`],
  "a name like an address": [withName('"10.31.0.2"'), `${AT}.hostname: found "10.31.0.2"; expected ${NAME}`],
  "a name with an underscore": [withName("a_b"), `${AT}.hostname: found "a_b"; expected ${NAME}`],
  "a name with an empty label": [withName("a..b"), `${AT}.hostname: found "a..b"; expected ${NAME}`],
  "a name that ends in a hyphen": [withName("a-"), `${AT}.hostname: found "a-"; expected ${NAME}`],
  "localhost": [withName("localhost"), `${AT}.hostname: found "localhost"; expected ${NAME}`],
  "an empty name": [withName('""'), `${AT}.hostname: found ""; expected ${NAME}`],
  "a label of 64 letters": [
    withName("a".repeat(64)),
    `${AT}.hostname: found "${"a".repeat(60)}…"; expected ${NAME}`,
  ],
  "a name that paints the terminal": [
    withName('"\\u202ea\\e[2J"'),
    `${AT}.hostname: found "\\u{202e}a\\u001b[2J"; expected ${NAME}`,
  ],

  ...Object.fromEntries(
    [
      "198.51.100.300",
      "198.51.100",
      "198.051.100.2",
      "host.example.com",
      "0.0.0.0",
      "127.0.0.1",
      "224.0.0.1",
      "255.255.255.255",
      "169.254.0.1",
      "10.30.0.2",
      "10.31.0.2",
      "198.51.100.2:22",
      "__proto__",
    ].map((address) => [
      `the external address ${address}`,
      [withAddress(address), `hosts.yml: all.hosts.${address}: found "${address}"; expected ${EXTERNAL}`],
    ]),
  ),
  "a range of addresses": [
    withAddress("198.51.100.[2:5]"),
    `hosts.yml: all.hosts."198.51.100.[2:5]": found "198.51.100.[2:5]"; expected ${EXTERNAL}`,
  ],
  "an address with a newline": [
    withAddress('"198.51.100.2\\n"'),
    `hosts.yml: all.hosts."198.51.100.2\\n": found "198.51.100.2\\n"; expected ${EXTERNAL}`,
  ],

  "mistyped settings": [
    { hosts: hostsYml("198.51.100.2: {hostid: 2, host_name: alpha, mobula_acess: auto, mobula_color: red}") },
    `${AT}.hostid: unknown setting; did you mean host_id?`,
    `${AT}.host_name: unknown setting; did you mean hostname?`,
    `${AT}.mobula_acess: unknown setting; did you mean mobula_access?`,
    `${AT}.mobula_color: unknown setting; expected mobula_access, mobula_egress, mobula_egress_probes, mobula_keys, ` +
    "mobula_mtu, mobula_switching, mobula_bfd_interval, mobula_bfd_multiplier or mobula_flood_limit",
    `${AT}.host_id: missing; expected ${ID}`,
    `${AT}.hostname: missing; expected ${NAME}`,
  ],
  "settings in the wrong place": [
    { hosts: withSetting("mobula_keys: keep").trimEnd() + "\n  vars: {hostname: x}\n" },
    "hosts.yml: all.vars.hostname: found in all.vars; expected a host's own settings",
    `${AT}.mobula_keys: found in a host's own settings; expected all.vars`,
  ],
  "wrong values in all.vars, once for all hosts": [
    {
      hosts: hostsYml(HOST, "198.51.100.3: {host_id: 3, hostname: beta}") +
        "  vars: {mobula_access: yes, mobula_keys: maybe, mobula_mtu: 1279}\n",
    },
    'hosts.yml: all.vars.mobula_access: found "yes"; expected none or auto',
    "hosts.yml: all.vars.mobula_mtu: found 1279; expected a whole number from 1280 to 9216",
    'hosts.yml: all.vars.mobula_keys: found "maybe"; expected keep or rotate',
  ],
  "wrong values for the switching": [
    withVars(
      "mobula_switching: star, mobula_bfd_interval: 5, mobula_bfd_multiplier: 1, mobula_flood_limit: 0",
    ),
    'hosts.yml: all.vars.mobula_switching: found "star"; expected direct or tree',
    "hosts.yml: all.vars.mobula_bfd_interval: found 5; expected a whole number from 20 to 10000",
    "hosts.yml: all.vars.mobula_bfd_multiplier: found 1; expected a whole number from 2 to 20",
    "hosts.yml: all.vars.mobula_flood_limit: found 0; expected a whole number from 10 to 1000000",
  ],
  "wrong values for the way out": [
    { hosts: withSetting("mobula_egress: both, mobula_egress_probes: [9.9.9.9, 10.31.0.2]") },
    `${AT}.mobula_egress_probes: found a list; expected a list of 1 to 4 IPv4 addresses on the Internet ` +
    "that answer a ping",
    `${AT}.mobula_egress: found "both"; expected own or failover`,
  ],
  "an MTU above 9216": [
    withVars("mobula_mtu: 9217"),
    "hosts.yml: all.vars.mobula_mtu: found 9217; expected a whole number from 1280 to 9216",
  ],
  "options instead of SSH settings": [
    {
      hosts: withSetting(
        'ansible_host: "-x", ansible_user: "-oProxyCommand=id", ansible_port: 0, ansible_become: perhaps, ' +
          'ansible_ssh_private_key_file: "a b"',
      ),
    },
    `${AT}.ansible_host: found "-x"; expected a host name or an address`,
    `${AT}.ansible_become: found "perhaps"; expected yes or no`,
    `${AT}.ansible_port: found 0; expected a whole number from 1 to 65535`,
    `${AT}.ansible_user: found "-oProxyCommand=id"; expected a user name of letters, digits, dots, hyphens and underscores`,
    `${AT}.ansible_ssh_private_key_file: found "a b"; expected a path of letters, digits and ~/._+@,=:- only`,
  ],

  "pinned keys of wrong length": [
    { hosts: withSetting("wireguard: {public_key: abc, private_key: secret}") },
    `${AT}.wireguard.public_key: found a text of 3 characters; expected ${KEY}`,
    `${AT}.wireguard.private_key: found a text of 6 characters; expected ${KEY}`,
  ],
  "half a pinned pair": [
    { hosts: withSetting(`wireguard: {public_key: ${KEY_A}, privat_key: x}`) },
    `${AT}.wireguard.privat_key: unknown key; did you mean private_key?`,
    `${AT}.wireguard.private_key: missing; expected ${KEY}`,
  ],
  "a pinned key as a text": [
    { hosts: withSetting("wireguard: secret") },
    `${AT}.wireguard: found a text of 6 characters; expected a map of public_key and private_key`,
  ],
  "pinned keys that do not belong together": [
    { hosts: withSetting(`wireguard: {public_key: ${KEY_A}, private_key: ${PAIR.privateKey}}`) },
    `${AT}.wireguard.public_key: found a key that does not belong to the private_key beside it; ` +
    `expected "${PAIR.publicKey}"`,
  ],
  "a pinned key that a client has": [
    {
      hosts: withSetting(`wireguard: {public_key: ${PAIR.publicKey}, private_key: ${PAIR.privateKey}}`),
      extraWires: `extra_wires: {10.30.128.1/32: ${PAIR.publicKey}}`,
    },
    `extra_wires.yml: extra_wires.10.30.128.1/32: found "${PAIR.publicKey}"; ` +
    "expected a key of its own, hosts.yml: all.hosts.198.51.100.2.wireguard.public_key has it",
  ],

  "extra hosts outside of the access network": [
    { extraHosts: "extra_hosts: {10.32.0.1: a, 10.31.0.0: b, 10.31.255.255: c, x: d}" },
    `extra_hosts.yml: extra_hosts.10.32.0.1: found "10.32.0.1"; expected ${ACCESS}`,
    `extra_hosts.yml: extra_hosts.10.31.0.0: found "10.31.0.0"; expected ${ACCESS}`,
    `extra_hosts.yml: extra_hosts.10.31.255.255: found "10.31.255.255"; expected ${ACCESS}`,
    `extra_hosts.yml: extra_hosts.x: found "x"; expected ${ACCESS}`,
  ],
  "extra hosts on a host's addresses": [
    { extraHosts: "extra_hosts: {10.31.128.2: a, 10.31.0.2: b}" },
    'extra_hosts.yml: extra_hosts.10.31.128.2: found "10.31.128.2"; ' +
    "expected a free address, the host all.hosts.198.51.100.2 has it",
    'extra_hosts.yml: extra_hosts.10.31.0.2: found "10.31.0.2"; ' +
    "expected a free address, the gateway of all.hosts.198.51.100.2 has it",
  ],
  "extra hosts' names": [
    { extraHosts: 'extra_hosts: {10.31.200.1: "a b", 10.31.200.2: Alpha, 10.31.200.3: [x]}' },
    `extra_hosts.yml: extra_hosts.10.31.200.1: found "a b"; expected ${NAME}`,
    `extra_hosts.yml: extra_hosts.10.31.200.3: found a list; expected ${NAME}`,
    'extra_hosts.yml: extra_hosts.10.31.200.2: found "Alpha"; expected a host name of its own, ' +
    "hosts.yml: all.hosts.198.51.100.2.hostname has it",
  ],
  "extra wires": [
    {
      extraWires:
        `extra_wires: {10.30.127.255/32: ${KEY_A}, 10.30.128.1: ${KEY_A}, 10.30.128.2/31: ${KEY_A}, ` +
        `10.30.128.3/32: ${KEY_A}x, 10.30.128.4/32: ${
          "A".repeat(43)
        }=, 10.30.128.5/32: ${KEY_B}, 10.30.128.6/32: ${KEY_B}}`,
    },
    `extra_wires.yml: extra_wires.10.30.127.255/32: found "10.30.127.255/32"; expected ${WIRE}`,
    `extra_wires.yml: extra_wires.10.30.128.1: found "10.30.128.1"; expected ${WIRE}`,
    `extra_wires.yml: extra_wires.10.30.128.2/31: found "10.30.128.2/31"; expected ${WIRE}`,
    `extra_wires.yml: extra_wires.10.30.128.3/32: found "${KEY_A}x"; expected ${KEY}`,
    `extra_wires.yml: extra_wires.10.30.128.4/32: found "${"A".repeat(43)}="; expected ${KEY}`,
    `extra_wires.yml: extra_wires.10.30.128.1: found "${KEY_A}"; expected a key of its own, ` +
    "extra_wires.10.30.127.255/32 has it",
    `extra_wires.yml: extra_wires.10.30.128.2/31: found "${KEY_A}"; expected a key of its own, ` +
    "extra_wires.10.30.127.255/32 has it",
    `extra_wires.yml: extra_wires.10.30.128.6/32: found "${KEY_B}"; expected a key of its own, ` +
    "extra_wires.10.30.128.5/32 has it",
  ],
  "mistyped keys of the extra files": [
    { extraHosts: "extra_host: {}", extraWires: "wires: {}" },
    "extra_hosts.yml: extra_host: unknown key; did you mean extra_hosts?",
    "extra_wires.yml: wires: unknown key; expected extra_wires",
  ],
  "mistakes in all three files": [
    { ...withId("0"), extraHosts: "- a", extraWires: "extra_wires: [" },
    `${AT}.host_id: found 0; expected ${ID}`,
    "extra_hosts.yml: found a list; expected a map with the key extra_hosts",
    "extra_wires.yml: line 2, column 1: not valid YAML (unexpected end of the stream within a flow collection)",
  ],
};

for (const [what, [texts, ...messages]] of Object.entries(REFUSED)) {
  Deno.test(`parseFleet: refuses ${what}`, () => {
    assertEquals(messageOf(texts).split("\n"), messages);
  });
}

Deno.test("parseFleet: no message shows a private key", () => {
  const swapped = `wireguard: {public_key: ${PAIR.privateKey}, private_key: ${PAIR.publicKey}}`;
  const broken = `wireguard: {public_key: ${PAIR.publicKey}, private_key: ${PAIR.privateKey}\n  - x`;
  const short = `wireguard: {public_key: ${PAIR.privateKey.slice(2)}, private_key: ${
    PAIR.privateKey.slice(1)
  }}`;
  for (const setting of [swapped, broken, short, `wireguard: ${PAIR.privateKey}`]) {
    const message = messageOf({ hosts: withSetting(setting) });
    assert(!message.includes(PAIR.privateKey.slice(2, 20)), message);
  }
});

Deno.test("parseFleet: counts what is more than a screen can take", () => {
  const lines = Array.from(
    { length: 150 },
    (_, index) => `198.51.100.${index}: {host_id: 0, hostname: h${index}}`,
  );
  const messages = messageOf({ hosts: hostsYml(...lines) }).split("\n");
  assertEquals([messages.length, messages.at(-1)], [MAX_PROBLEMS + 1, "and 50 more"]);
});

Deno.test("parseFleet: the user's own variables are left alone", () => {
  const fleet = parse({
    hosts: withSetting("ansible_foo: 1, my_var: [x], http_port: 80, region: eu, motd: x"),
  });
  assertEquals(fleet.hosts.length, 1);
});

Deno.test("parseFleet: tabs inside of block texts and JSON are fine", () => {
  const block = `${GOOD}  vars:\n    script: |\n      a\n      \tb\n\t\n    other: 1\n`;
  const json = '{\n\t"all": {\n\t\t"hosts": {"198.51.100.2": {"host_id": 2, "hostname": "alpha"}}\n\t}\n}\n';
  assertEquals(parse({ hosts: block }), parse({ hosts: json }));
});

Deno.test("parseFleet: empty extra files and maps are fine", () => {
  for (const text of ["", "# none yet\n", "---\n"]) {
    assertEquals(parse({ extraHosts: text, extraWires: text }), parse({}));
  }
  assertEquals(parse({ extraHosts: "extra_hosts:", extraWires: "extra_wires: {}" }), parse({}));
});

Deno.test("parseFleet: keeps pinned keys out of JSON", () => {
  const wireguard = `wireguard: {public_key: ${PAIR.publicKey}, private_key: ${PAIR.privateKey}}`;
  const pinned = parse({ hosts: withSetting(wireguard) }).hosts[0]?.pinnedKeys;
  assertEquals(pinned?.privateKey.reveal(), PAIR.privateKey);
  assertEquals(JSON.stringify(pinned), `{"publicKey":"${PAIR.publicKey}","privateKey":"[secret]"}`);
});

Deno.test("parseFleet: sorts hosts by id, extras by address", () => {
  const fleet = parse({
    hosts: hostsYml("198.51.100.9: {host_id: 10, hostname: b}", "198.51.100.10: {host_id: 9, hostname: a}"),
    extraHosts: "extra_hosts: {10.31.200.10: x, 10.31.200.9: y}",
    extraWires: `extra_wires: {10.30.128.10/32: ${KEY_A}, 10.30.128.9/32: ${KEY_B}}`,
  });
  assertEquals(fleet.hosts.map(({ id }) => id), [9, 10]);
  assertEquals(fleet.extraHosts.map(({ hostname }) => hostname), ["y", "x"]);
  assertEquals(fleet.extraWires.map(({ address }) => address), ["10.30.128.9", "10.30.128.10"]);
});

Deno.test("parseFleet: the nearest setting wins, of two groups of one depth the later name", () => {
  const hosts = `
all:
  vars: {ansible_user: all, ansible_port: 1}
  hosts:
    198.51.100.1: {host_id: 1, hostname: a}
    198.51.100.2: {host_id: 2, hostname: b, ansible_user: host}
  children:
    outer:
      vars: {ansible_user: outer, ansible_port: 2}
      children: {inner: {vars: {ansible_user: inner}, hosts: {198.51.100.1: , 198.51.100.2: , 198.51.100.3: }}}
    x: {vars: {ansible_port: 3}, hosts: {198.51.100.3: {host_id: 3, hostname: c}}}
    y: {vars: {ansible_port: 4}, hosts: {198.51.100.3: }}
    z: {children: {inner: }, vars: {ansible_become: "Yes"}}
`;
  const seen = parse({ hosts }).hosts.map(({ ssh }) => `${ssh.user} ${ssh.port} ${ssh.become}`);
  assertEquals(seen, ["inner 2 true", "host 2 true", "inner 4 true"]);
});

Deno.test("parseFleet: a large fleet looks at each of its paths less often, unless told", () => {
  const interval = (count: number, vars = "") => {
    const lines = Array.from(
      { length: count },
      (_, index) =>
        `198.51.${100 + (index >> 7)}.${index & 127}: {host_id: ${index + 1}, hostname: h${index}}`,
    );
    return parse({ hosts: hostsYml(...lines) + vars }).switching.bfdInterval;
  };
  assertEquals([1, 32, 33, 64, 300].map((count) => interval(count)), [100, 100, 200, 200, 1000]);
  assertEquals(interval(300, "  vars: {mobula_bfd_interval: 50}\n"), 50);
});

Deno.test("parseFleet: aliases that multiply, to 2^60, are looked at once each", () => {
  const level = (index: number) =>
    `  l${index}: &l${index} {children: {a${index}: *l${index - 1}, b${index}: *l${index - 1}}}\n`;
  const levels = Array.from({ length: 60 }, (_, index) => level(index + 1)).join("");
  const hosts = `all:\n  hosts: {${HOST}}\n  children:\n    l0: &l0 {}\n${
    levels.replaceAll(/^/gm, "  ").trimEnd()
  }\n`;
  assertEquals(parse({ hosts }).hosts.length, 1);
});

Deno.test("parseFleet: merge keys: a map's own keys win, then those of the first map; without them it is a mistake", () => {
  const inventory = (merge: string) =>
    `all:
  vars: {mobula_keys: keep}
  hosts:
    198.51.100.2: &a {host_id: 2, hostname: alpha, mobula_access: auto}
    198.51.100.3: &b {<<: *a, host_id: 3, hostname: beta}
    198.51.100.4: {host_id: 4, <<: ${merge}, hostname: gamma}
`;
  for (const merge of ["*a", "[*a, *b]", "[*b, *a]"]) {
    const { hosts } = parse({ hosts: inventory(merge) });
    assertEquals(hosts.map(({ id, hostname, access }) => `${id} ${hostname} ${access}`), [
      "2 alpha auto",
      "3 beta auto",
      "4 gamma auto",
    ]);
  }
  for (const merge of ["7", "[*a, 7]", "[[*a]]"]) {
    assertMatch(
      assertThrows(() => parse({ hosts: inventory(merge) }), ConfigError).message,
      /found a merge key \(<<\) without a map; expected a map, or a list of maps/,
    );
  }
});

Deno.test("parseFleet: merge keys that copy without end are refused", () => {
  const keys = Array.from({ length: 8000 }, (_, index) => `    k${index}: 1`).join("\n");
  const uses = Array.from({ length: 5000 }, (_, index) => `    x${index}: {<<: *a}`).join("\n");
  const hosts = `all:\n  vars:\n    a: &a\n${keys.replaceAll(/^/gm, "  ")}\n${uses}\n`;
  assertMatch(
    assertThrows(() => parse({ hosts }), ConfigError).message,
    /merge keys \(<<\) that copy more than 1000000 keys; expected the settings in all\.vars instead/,
  );
});

Deno.test("parseFleet: 1,000 hosts with pinned keys", async () => {
  const lines = await Promise.all(Array.from({ length: 1000 }, async (_, index) => {
    const { publicKey, privateKey } = await generateKeyPair();
    const wireguard = `{public_key: ${publicKey}, private_key: ${privateKey.reveal()}}`;
    const address = `198.51.${index >> 8}.${index & 255}`;
    return `${address}: {host_id: ${index + 1}, hostname: host-${index}, wireguard: ${wireguard}}`;
  }));
  assertEquals(parse({ hosts: hostsYml(...lines) }).hosts.length, 1000);
});

Deno.test("parseFleet: forward and preserve_services, a host's own instead of its group's and all.vars'", () => {
  const text = `
all:
  vars: {forward: [80], preserve_services: yes}
  hosts:
    198.51.100.2: {host_id: 2, hostname: alpha}
    198.51.100.3: {host_id: 3, hostname: beta, forward: [443, "8443:443/tcp", "53/udp", "70"], preserve_services: no}
  children:
    web: {hosts: {198.51.100.4: {host_id: 4, hostname: gamma}}, vars: {forward: []}}
`;
  const found = parse({ hosts: text }).hosts.map(({ forward = [], preserveServices = false }) => [
    ...forward.map(({ external, internal, protocol }) => `${external}:${internal}/${protocol}`),
    preserveServices,
  ]);
  assertEquals(found, [
    ["80:80/tcp", true],
    ["443:443/tcp", "8443:443/tcp", "53:53/udp", "70:70/tcp", false],
    [true],
  ]);
});
