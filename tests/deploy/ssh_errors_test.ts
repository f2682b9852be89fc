import { assertEquals, assertMatch } from "@std/assert";
import { classifySshFailure, lostConnection } from "../../lib/deploy/ssh_errors.ts";

const CHANGED = `@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
Offending ED25519 key in /home/ann/.ssh/known_hosts:17
Host key for 198.51.100.2 has changed and you have requested strict checking.
Host key verification failed.`;

/** What ssh said → may it be tried again, and a part of the message. */
const CASES: readonly (readonly [string, boolean, RegExp])[] = [
  [CHANGED, false, /changed.*known_hosts, line 17.*ssh-keygen -R 198\.51\.100\.2 -f \/home\/ann/],
  ["Host key verification failed.", false, /not known.*--accept-new-host-keys/],
  [
    "root@198.51.100.2: Permission denied (publickey,password).",
    false,
    /Permission denied \(publickey.*ansible_user/,
  ],
  ["Received disconnect from 198.51.100.2 port 22:2: Too many authentication failures", false, /Too many/],
  ["/tmp/x: line 1: Bad configuration option: foo", false, /ssh configuration/],
  ["ssh: connect to host 198.51.100.2 port 22: Connection refused", true, /refused/],
  ["ssh: connect to host 198.51.100.2 port 22: Connection timed out", true, /no answer in time/],
  ["Connection timed out during banner exchange", true, /no answer in time/],
  ["Timeout, server 198.51.100.2 not responding.", true, /no answer in time/],
  ["ssh: connect to host 198.51.100.2 port 22: No route to host", true, /no route/],
  ["ssh: Could not resolve hostname web1: Name or service not known", true, /cannot be resolved/],
  ["kex_exchange_identification: read: Connection reset by peer", true, /connection lost/],
  ["client_loop: send disconnect: Broken pipe", true, /connection lost/],
];

for (const [stderr, retry, message] of CASES) {
  Deno.test(`classifySshFailure: ${stderr.split("\n").at(-1)!.slice(0, 60)}`, () => {
    const error = classifySshFailure("web1", "198.51.100.2", `Warning: some banner\n${stderr}\n`);
    assertEquals(error?.options.retry, retry);
    assertMatch(error!.message, message);
    assertEquals(error!.message.startsWith("web1: "), true);
  });
}

Deno.test("classifySshFailure: a command's own complaint is none of ssh's", () => {
  assertEquals(classifySshFailure("web1", "198.51.100.2", "cat: /x: No such file or directory\n"), undefined);
  assertEquals(lostConnection("web1", "198.51.100.2", "").options.retry, true);
});
