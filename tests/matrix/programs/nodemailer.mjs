// Sends the messages that stdin names (file, sender, recipients; tabs between) through the door that the environment names.
import fs from "node:fs";
import net from "node:net";
import { createRequire } from "node:module";

const { DOOR_PORT, DOOR_TLS, DOOR_CA, DOOR_USER, DOOR_PASSWORD, DOOR_SOCKET, NODE_FOLDER } = process.env;
const nodemailer = createRequire(`${NODE_FOLDER}/`)("nodemailer");

const options = {
  host: "localhost",
  port: Number(DOOR_PORT),
  name: "client.test",
  secure: DOOR_TLS === "implicit",
  requireTLS: DOOR_TLS === "starttls",
  ignoreTLS: DOOR_TLS === "none",
  tls: { ca: [fs.readFileSync(DOOR_CA)] },
};
if (DOOR_USER) options.auth = { user: DOOR_USER, pass: DOOR_PASSWORD };

for (const line of fs.readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const [file, from, to] = line.split("\t");
  const socket = DOOR_SOCKET ? { connection: net.connect(DOOR_SOCKET) } : {};
  const transport = nodemailer.createTransport({ ...options, ...socket });
  await transport.sendMail({ envelope: { from, to: to.split(","), use8BitMime: true }, raw: fs.readFileSync(file) });
  transport.close();
}
