/** Our rules stand in the profile's local file once, beside what others wrote there, and go without a trace. */
import { assertEquals } from "@std/assert";
import {
  addRules,
  apparmorFiles,
  DNSMASQ_LOCAL,
  DNSMASQ_PROFILE,
  removeRules,
} from "../../lib/render/apparmor.ts";

const RULES = "/opt/mobula/etc/* r, # mobula\n" +
  "/run/mobula/upstream.conf r, # mobula\n";
const TEXTS: Record<string, string> = {
  "an empty file": "",
  "lines of the admin's": "# mine\n/srv/dnsmasq/** r,\n",
};

for (const [what, text] of Object.entries(TEXTS)) {
  Deno.test(`addRules: ${what} stays, the rules come behind, once`, () => {
    assertEquals(addRules(text), text + RULES);
    assertEquals(addRules(addRules(text)), text + RULES);
    assertEquals(removeRules(addRules(text)), text);
  });
}

Deno.test("addRules: a last line without its end is not joined with ours", () => {
  assertEquals(addRules("/srv/** r,"), `/srv/** r,\n${RULES}`);
});

Deno.test("apparmorFiles: nothing where there is no profile, a file of its own where there is none yet", () => {
  assertEquals(apparmorFiles(new Map([[DNSMASQ_LOCAL, "# mine\n"]])), []);
  const seen = new Map([[DNSMASQ_PROFILE, "profile dnsmasq {}\n"]]);
  assertEquals(apparmorFiles(seen), [{ path: DNSMASQ_LOCAL, content: RULES }]);
});
