/** What leaves a host takes its lines out of others' files, and nothing of theirs. */
import { assertEquals } from "@std/assert";
import { leavePaths, leavePlan } from "../../lib/host/leave.ts";
import { addRules, DNSMASQ_LOCAL } from "../../lib/render/apparmor.ts";
import { BRIDGE_FILTER_RULE, renderBridgeFilterRule } from "../../lib/render/bridge_filter.ts";

Deno.test("leavePlan: our lines go from AppArmor's file, the admin's stay, and the profile is read again", () => {
  assertEquals(leavePaths(undefined).includes(DNSMASQ_LOCAL), true);
  const plan = leavePlan(undefined, new Map([[DNSMASQ_LOCAL, addRules("# mine\n")]]));
  assertEquals(plan.files, [{ path: DNSMASQ_LOCAL, content: "# mine\n" }]);
  assertEquals(plan.reloads.map(({ title }) => title), ["reload dnsmasq's AppArmor profile"]);
});

Deno.test("leavePlan: an AppArmor file without lines of ours is left alone", () => {
  const plan = leavePlan(undefined, new Map([[DNSMASQ_LOCAL, "# mine\n"]]));
  assertEquals(plan.files, []);
  assertEquals(plan.reloads, []);
});

Deno.test("leavePlan: udev's rule for bridged frames goes", () => {
  const plan = leavePlan(undefined, new Map([[BRIDGE_FILTER_RULE, renderBridgeFilterRule().content]]));
  assertEquals(plan.files, [{ path: BRIDGE_FILTER_RULE, content: undefined }]);
});
