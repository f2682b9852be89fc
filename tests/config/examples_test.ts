/** Every example file is a configuration without a mistake. Reads the examples. */
import { assertEquals } from "@std/assert";
import { readFleet } from "../../lib/commands/load_fleet.ts";
import type { Host } from "../../lib/fleet.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;

/** One line for each host: address, id, name, access, SSH target. */
function summary({ address, id, hostname, access, ssh, pinnedKeys, egress }: Host): string {
  const login = `${ssh.user ?? ""}@${ssh.host}:${ssh.port ?? ""}${ssh.become ? " sudo" : ""}`;
  const out = egress && `out by ${egress.probes.join(", ")}`;
  return [address, id, hostname, access, login, ssh.identityFile, pinnedKeys && "pinned", out]
    .filter((part) => part !== undefined).join(" ");
}

const EXPECTED: Record<string, { hosts: string[]; keepKeys?: boolean; underlayMtu?: number }> = {
  "hosts.yml": {
    keepKeys: true,
    hosts: [
      "198.51.100.2 2 alpha auto @198.51.100.2:",
      "198.51.100.3 3 beta auto @198.51.100.3:",
      "198.51.100.4 4 gamma auto admin@198.51.100.4: sudo",
    ],
  },
  "forward/hosts.yml": {
    keepKeys: true,
    hosts: ["198.51.100.2 2 alpha auto @198.51.100.2:", "198.51.100.3 3 beta auto @198.51.100.3:"],
  },
  "groups/hosts.yml": {
    underlayMtu: 1450,
    hosts: [
      "198.51.100.2 2 alpha.example.com none admin@198.51.100.2:2222 sudo",
      "203.0.113.7 256 beta.example.com none admin@203.0.113.7:22 sudo",
      "203.0.113.8 257 gamma.example.com auto admin@bastion-gamma:2222 sudo ~/.ssh/id_ed25519",
    ],
  },
  "egress/hosts.yml": {
    hosts: [
      "198.51.100.2 2 alpha auto @198.51.100.2: out by 192.0.2.1, 9.9.9.9",
      "198.51.100.3 3 beta auto @198.51.100.3: out by 9.9.9.9, 1.1.1.1",
      "198.51.100.4 4 gamma auto @198.51.100.4:",
    ],
    keepKeys: true,
  },
  "minimal/hosts.yml": {
    hosts: ["198.51.100.2 2 alpha none @198.51.100.2:", "198.51.100.3 3 beta none @198.51.100.3:"],
  },
  "pinned_keys/hosts.yml": {
    hosts: [
      "198.51.100.2 2 alpha none @198.51.100.2: pinned",
      "198.51.100.3 3 beta none @198.51.100.3: pinned",
    ],
  },
  "single/hosts.yml": { hosts: ["198.51.100.2 1 alpha none @198.51.100.2:"] },
};

for (const [file, expected] of Object.entries(EXPECTED)) {
  Deno.test(`readFleet: examples/${file}`, async () => {
    const { fleet } = await readFleet(EXAMPLES + file);
    assertEquals(fleet.hosts.map(summary), expected.hosts);
    assertEquals(fleet.keepKeys, expected.keepKeys ?? false);
    assertEquals(fleet.underlayMtu, expected.underlayMtu);
  });
}

Deno.test("readFleet: the extra files beside examples/hosts.yml", async () => {
  const { fleet, directory, pubkeys } = await readFleet(`${EXAMPLES}hosts.yml`);
  assertEquals(`${directory}/`, EXAMPLES);
  assertEquals(fleet.extraHosts, [
    { address: "10.31.200.1", hostname: "wiki.example.com" },
    { address: "10.31.200.2", hostname: "printer" },
  ]);
  assertEquals(fleet.extraWires, [
    { address: "10.30.128.1", publicKey: "2jT2ySbIKKLVJdbTfKrKYOxHohNQehTPRqaoz4mX6j8=" },
    { address: "10.30.128.2", publicKey: "t+uM1TGLs1+EWgqCmS+f91uP9FwBCfgjWThDxn+MYwQ=" },
  ]);
  assertEquals(pubkeys.size, 0);
});

Deno.test("readFleet: every hosts.yml below examples/ is tested", () => {
  const files = [...Deno.readDirSync(EXAMPLES)]
    .flatMap((entry) =>
      entry.isDirectory ? `${entry.name}/hosts.yml` : entry.name.startsWith("hosts") ? entry.name : []
    );
  assertEquals(files.sort(), Object.keys(EXPECTED).sort());
});
