/**
 * A real kernel that lacks a module, on a machine to which nothing has come yet: what mobula says of it, and that it leaves it alone.
 * Moves the kernel's files aside and brings them back.
 */
import { assertEquals, assertMatch } from "@std/assert";
import type { Lab } from "../lab/lab.ts";
import { expectCode } from "../lab/proof.ts";
import { BARE, onHost, plan, type Proof, push, timed } from "./stage.ts";

/** What was said without the modules, and what was on the host afterwards. */
export interface Lacking {
  readonly kernel: string;
  /** Without Open vSwitch's module. */
  readonly plan: string;
  /** Without the packet filter's NAT, too. */
  readonly push: string;
  readonly before: string;
  readonly after: string;
}

/** Everything that an installation begins with. */
const TRACES = `dpkg-query -f '\${Package} \${Version}\\n' -W | sha256sum
ls -d /opt/mobula /etc/mobula 2>/dev/null || :
ls /etc/systemd/system
cut -d' ' -f1 /proc/modules | grep -x -e openvswitch -e wireguard -e geneve || :`;

/** Takes the modules away one after the other and asks; before the first push. */
export async function tryWithoutModules(lab: Lab, program: string): Promise<Lacking> {
  const file = `${lab.directory}/lacking.json`;
  const known = await Deno.readTextFile(file).catch(() => undefined);
  // A lab that is kept was asked already.
  if (known !== undefined) return JSON.parse(known);
  const before = await onHost(lab, BARE, TRACES);
  const hide = (module: string) =>
    onHost(lab, BARE, `${FOLDERS}; mkdir -p "$aside"; ${hideModule(module)}; depmod`);
  try {
    await hide("openvswitch");
    const planned = await timed("plan without openvswitch", () => plan(lab, program, "--limit", BARE));
    expectCode(planned, 4, "the plan for a kernel without openvswitch");
    await hide("nft_chain_nat");
    const pushed = await timed("push without nft_chain_nat", () => push(lab, program, "--limit", BARE));
    expectCode(pushed, 1, "the push to a kernel without nft_chain_nat");
    const after = await onHost(lab, BARE, TRACES);
    const kernel = await onHost(lab, BARE, "uname -r");
    const found = { kernel, plan: planned.stdout, push: pushed.stdout + pushed.stderr, before, after };
    await Deno.writeTextFile(file, JSON.stringify(found));
    return found;
  } finally {
    await onHost(lab, BARE, `${FOLDERS}; ${BRING_BACK}; depmod`);
  }
}

const FOLDERS = "modules=/lib/modules/$(uname -r) aside=/var/tmp/lab-modules";

/** The same place below another folder, so that it can be found again. */
function hideModule(module: string): string {
  const find = `find . -name '${module}.ko*'`;
  return `cd "$modules"; ${find} -exec cp --parents -t "$aside" {} +; ${find} -delete`;
}

const BRING_BACK = 'cp -a "$aside/." "$modules/"; rm -r "$aside"';

/** Declares what has to be true of it. */
export function declareLacking(proof: Proof): void {
  proof(
    "a real kernel without a module: named with its package, and nothing is touched",
    (_lab, { lacking }) => {
      const { kernel, plan, push, before, after } = lacking;
      const way = `Reinstall linux-image-${kernel}`.replaceAll(".", "\\.").replaceAll("+", "\\+");
      assertMatch(
        plan,
        new RegExp(`note: kernel \\S+ has no module openvswitch: .*in userspace, slower\\. ${way}`),
      );
      assertMatch(
        push,
        new RegExp(
          `has no module openvswitch, nft_chain_nat, and no program takes the place of nft_chain_nat; .*${way}`,
        ),
      );
      assertEquals(after, before);
      return Promise.resolve();
    },
  );
}
