// node dkim_verify.mjs KEYS MESSAGE…: "MESSAGE SELECTOR RESULT" for each signature, by mailauth with keys from a file.
import fs from "node:fs";
import { dkimVerify } from "mailauth/lib/dkim/verify.js";

const [keys, ...messages] = process.argv.slice(2);
const records = new Map();
for (const line of fs.readFileSync(keys, "utf8").trim().split("\n")) {
  const space = line.indexOf(" ");
  records.set(line.slice(0, space), line.slice(space + 1));
}

async function resolver(name, type) {
  if (type === "TXT" && records.has(name)) return [[records.get(name)]];
  throw Object.assign(new Error("no such record"), { code: "ENOTFOUND" });
}

for (const file of messages) {
  const { results } = await dkimVerify(fs.readFileSync(file), { resolver });
  for (const { selector, status } of results) console.log(file, selector, status.result);
}
