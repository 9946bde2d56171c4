// Sends the messages that stdin names (file, sender, recipients; tabs between) through the door that the environment names.
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import javax.mail.Address;
import javax.mail.Session;
import javax.mail.Transport;
import javax.mail.internet.InternetAddress;
import com.sun.mail.smtp.SMTPMessage;

public class JavaMail {
    public static void main(String[] arguments) throws Exception {
        String tls = System.getenv("DOOR_TLS"), user = System.getenv("DOOR_USER");
        String protocol = tls.equals("implicit") ? "smtps" : "smtp";
        Properties settings = new Properties();
        settings.put("mail." + protocol + ".localhost", "client.test");
        settings.put("mail.smtp.starttls.required", String.valueOf(tls.equals("starttls")));
        settings.put("mail.smtp.starttls.enable", String.valueOf(tls.equals("starttls")));
        settings.put("mail." + protocol + ".ssl.checkserveridentity", "true");
        settings.put("mail." + protocol + ".allow8bitmime", "true");
        settings.put("mail.mime.allowutf8", "true");
        settings.put("mail." + protocol + ".auth", String.valueOf(user != null));
        Session session = Session.getInstance(settings);
        Transport transport = session.getTransport(protocol);
        int port = Integer.parseInt(System.getenv("DOOR_PORT"));
        transport.connect("localhost", port, user, System.getenv("DOOR_PASSWORD"));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] columns = line.split("\t");
            try (FileInputStream content = new FileInputStream(columns[0])) {
                SMTPMessage message = new SMTPMessage(session, content);
                message.setEnvelopeFrom(columns[1]);
                String[] names = columns[2].split(",");
                Address[] recipients = new Address[names.length];
                for (int n = 0; n < names.length; n++) recipients[n] = new InternetAddress(names[n]);
                transport.sendMessage(message, recipients);
            }
        }
        transport.close();
    }
}
