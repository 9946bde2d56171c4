// npm's smtp-server: every message to a file named by its first recipient; prints its port.
import fs from "node:fs";
import { createRequire } from "node:module";

const { SMTPServer } = createRequire(`${process.env.NODE_FOLDER}/`)("smtp-server");
const folder = process.argv[2];

const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ["AUTH", "STARTTLS"],
  onData(stream, session, callback) {
    const name = session.envelope.rcptTo[0].address.split("@")[0];
    const file = fs.createWriteStream(`${folder}/${name}.part`);
    stream.pipe(file);
    file.on("finish", () => {
      fs.renameSync(`${folder}/${name}.part`, `${folder}/${name}`);
      callback();
    });
  },
});
const listening = server.listen(0, "127.0.0.1", () => console.log(listening.address().port));
