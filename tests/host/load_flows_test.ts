/** `load-flows` with a switch that only answers: what it adds and deletes. Runs shells, writes in folders of its own. */
import { assertEquals } from "@std/assert";
import { RUN_DIR } from "../../lib/net/seen.ts";
import { LOAD_FLOWS } from "../../lib/render/switch_programs.ts";

/** Takes down what it is called with, and answers from the files of its folder. */
const OFCTL = `#!/bin/sh
while :; do case $1 in -O | --names) [ "$1" != -O ] || shift; shift ;; --*) shift ;; *) break ;; esac; done
case $* in
  add-meter*) [ ! -e "$FAKE/no-meters" ] || exit 1 ;;
  mod-meter*) [ ! -e "$FAKE/no-meters" ] || exit 1 ;;
  dump-*) cat "$FAKE/$1" 2>/dev/null; exit 0 ;;
esac
case $* in
  *' -') sed "s/^/$1 /" >>"$FAKE/called" ;;
  *del-flows*) echo "del-flows $*" >>"$FAKE/called" ;;
  *) echo "$1 $3" >>"$FAKE/called" ;;
esac
`;

const TEXT = `# A comment.
meter meter=1,pktps
group group_id=5,type=ff,bucket=actions=output:1
flow table=0,priority=0,actions=NORMAL
flow table=8,priority=0,actions=meter:1,NORMAL
`;

interface Loaded {
  readonly code: number;
  readonly called: readonly string[];
  readonly listing: string | undefined;
}

/** Loads the text into a switch that answers so; `COOKIE` stands for the text's own in what it answers and is told. */
async function load(answers: Readonly<Record<string, string>>, ...args: readonly string[]): Promise<Loaded> {
  const folder = await Deno.makeTempDir({ prefix: "mobula-flows-" });
  try {
    const cookie = await cookieOf(TEXT);
    for (const [name, text] of Object.entries({ ...answers, "ovs-ofctl": OFCTL, "flows.text": TEXT })) {
      await Deno.writeTextFile(`${folder}/${name}`, text.replaceAll("COOKIE", cookie), { mode: 0o755 });
    }
    const script = LOAD_FLOWS.replaceAll(RUN_DIR, folder);
    const env = { PATH: `${folder}:${Deno.env.get("PATH")}`, FAKE: folder };
    const child = new Deno.Command("sh", { args: ["-c", script, "sh", ...args], env, stdin: "piped" })
      .spawn();
    const [{ code }] = await Promise.all([child.status, new Blob([TEXT]).stream().pipeTo(child.stdin)]);
    const read = (name: string) => Deno.readTextFile(`${folder}/${name}`).catch(() => undefined);
    const called = (await read("called") ?? "").replaceAll(cookie, "COOKIE").split("\n").slice(0, -1);
    return { code, called, listing: (await read("flows.listing"))?.replaceAll(cookie, "COOKIE") };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function cookieOf(text: string): Promise<string> {
  const child = new Deno.Command("cksum", { stdin: "piped", stdout: "piped" }).spawn();
  const [{ stdout }] = await Promise.all([child.output(), new Blob([text]).stream().pipeTo(child.stdin)]);
  return `0x${Number(new TextDecoder().decode(stdout).split(" ")[0]).toString(16)}`;
}

const ADDED = [
  "add-meter meter=1,pktps",
  "add-groups add_or_mod group_id=5,type=ff,bucket=actions=output:1",
  "add-flows cookie=COOKIE,table=0,priority=0,actions=NORMAL",
  "add-flows cookie=COOKIE,table=8,priority=0,actions=meter:1,NORMAL",
];
const LIVE = {
  "dump-flows":
    "OFPST_FLOW reply:\n cookie=COOKIE, actions=NORMAL\n cookie=COOKIE, table=8, actions=meter:1,NORMAL\n" +
    " cookie=0x7, table=1, reg1=2 actions=load:1\n",
  "dump-groups": "OFPST_GROUP_DESC reply:\n group_id=5,type=ff,bucket=actions=output:1\n",
  "dump-meters": "OFPST_METER_CONFIG reply:\nmeter=1 pktps\n",
};

Deno.test("load-flows: adds all of the text, deletes nothing of it and nothing that was learned, and remembers what is live", async () => {
  const { code, called, listing } = await load(LIVE);
  assertEquals([code, called], [0, ADDED]);
  assertEquals(listing, Object.values(LIVE).join(""));
});

Deno.test("load-flows: what bears another cookie and groups that are not in the text are deleted after all is added", async () => {
  const { code, called } = await load({
    ...LIVE,
    "dump-flows": `${
      LIVE["dump-flows"]
    } cookie=0x9, priority=7,in_port=3 actions=drop\n cookie=0x9, table=3, reg1=4 actions=drop\n`,
    "dump-groups": `${LIVE["dump-groups"]} group_id=55,type=ff,bucket=actions=output:2\n`,
  });
  assertEquals([code, called], [0, [
    ...ADDED,
    "del-flows table=0,priority=7,in_port=3",
    "del-flows  table=3, reg1=4",
    "add-groups delete group_id=55",
  ]]);
});

Deno.test("load-flows: a switch without meters gets its flows without them", async () => {
  const { code, called } = await load({ ...LIVE, "no-meters": "" });
  assertEquals([code, called], [
    0,
    ADDED.filter((line) => !line.startsWith("add-meter")).map((line) => line.replace("meter:1,", "")),
  ]);
});

Deno.test("load-flows: a fresh switch gets the remembered text, and nothing is remembered of it", async () => {
  const { code, called, listing } = await load({ ...LIVE, "flows.listing": "of before" }, "fresh");
  assertEquals([code, called, listing], [0, ADDED, undefined]);
});
