/** Everything rendered for the examples, for the ids at the edges, and from blank to wanted, word by word. */
import { assertEquals } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import type { Network } from "../../lib/net/network.ts";
import { networkSteps } from "../../lib/net/steps.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { renderFiles } from "../../lib/render/files.ts";
import { blankSeen, fleetOf, inputFor, type Mode, MODES } from "../net/fixtures.ts";
import { allFiles, casesOf, EXAMPLE_FILES } from "./cases.ts";
import { assertGolden, goldenNames, renderBundle, renderSteps } from "./golden.ts";

/** Units, programs and modules are the same on every host of a mode: they have a golden file of their own. */
function dependsOnHost(path: string): boolean {
  return !/^\/etc\/systemd\/system\/mobula|^\/opt\/mobula\/bin\/|^\/etc\/modules-load\.d\//.test(path);
}

for (const example of EXAMPLE_FILES) {
  Deno.test(`renderFiles: ${example.folder} as in its golden files`, async (t) => {
    const cases = await casesOf(example);
    for (const { name, input } of cases) {
      await t.step(name, () => assertGolden(name, renderBundle(allFiles(input), dependsOnHost)));
    }
    await t.step("no golden file is left over", () => {
      assertEquals(goldenNames(example.folder), cases.map(({ name }) => name).sort());
    });
  });
}

for (const mode of Object.keys(MODES) as Mode[]) {
  const input = inputFor(fleetOf([2, 3, 256]), 2, mode);

  Deno.test(`renderFiles: units and programs in ${mode} mode as in the golden file`, () => {
    const files = renderFiles(input).filter(({ path }) => !dependsOnHost(path));
    assertGolden(`programs/${mode}`, renderBundle(files, () => true));
  });

  Deno.test(`networkSteps: from a blank host in ${mode} mode as in the golden file`, () => {
    assertGolden(`steps/${mode}`, renderSteps(networkSteps(wantedNetwork(input), blankSeen(input))));
  });
}

function renderLinks({ links }: Network): string {
  return links.map(({ scope, name, mac, mtu, addresses, peer }) =>
    [`${scope}/${name}`, mac, mtu, ...(addresses ?? []), peer && `- ${peer.scope}/${peer.name} ${peer.mac}`]
      .filter((part) => part !== undefined).join(" ")
  ).join("\n");
}

for (const id of [1, 2, 255, 256, 32767]) {
  Deno.test(`wantedNetwork: addresses, MACs, firewall and shortcut of id ${id} as in the golden file`, () => {
    const input = inputFor(fleetOf([id, 32766]), id, "userspace");
    const network = wantedNetwork(input);
    const addresses = Object.entries(hostAddresses(id)).map(([role, address]) => `${role} ${address}`);
    assertGolden(
      `ids/${id}`,
      `${addresses.join("\n")}\n\n${
        renderLinks(network)
      }\n\n${network.firewall.text}\n${network.shortcut.text}`,
    );
  });
}
