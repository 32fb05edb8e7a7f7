//! ATT&CK techniques and tactics by name: what a rule's tags stand for.
//!
//! In: a tag such as `attack.t1110.004`. Out: its id, its name where it is known here, and the page that explains it.
//! Invariants: an id that is not in the table is shown as the id; nothing is loaded from anywhere, the address is only a link.

/// Techniques that rules for firewalls, web application firewalls, APIs and hosts commonly name, in the order of their ids.
const TECHNIQUES: &[(&str, &str)] = &[
    ("T1001", "Data Obfuscation"),
    ("T1003", "OS Credential Dumping"),
    ("T1003.001", "LSASS Memory"),
    ("T1005", "Data from Local System"),
    ("T1007", "System Service Discovery"),
    ("T1008", "Fallback Channels"),
    ("T1010", "Application Window Discovery"),
    ("T1012", "Query Registry"),
    ("T1016", "System Network Configuration Discovery"),
    ("T1018", "Remote System Discovery"),
    ("T1020", "Automated Exfiltration"),
    ("T1021", "Remote Services"),
    ("T1021.001", "Remote Desktop Protocol"),
    ("T1021.002", "SMB/Windows Admin Shares"),
    ("T1021.004", "SSH"),
    ("T1021.006", "Windows Remote Management"),
    ("T1027", "Obfuscated Files or Information"),
    ("T1029", "Scheduled Transfer"),
    ("T1030", "Data Transfer Size Limits"),
    ("T1033", "System Owner/User Discovery"),
    ("T1036", "Masquerading"),
    ("T1040", "Network Sniffing"),
    ("T1041", "Exfiltration Over C2 Channel"),
    ("T1046", "Network Service Discovery"),
    ("T1047", "Windows Management Instrumentation"),
    ("T1048", "Exfiltration Over Alternative Protocol"),
    ("T1049", "System Network Connections Discovery"),
    ("T1053", "Scheduled Task/Job"),
    ("T1055", "Process Injection"),
    ("T1056", "Input Capture"),
    ("T1057", "Process Discovery"),
    ("T1059", "Command and Scripting Interpreter"),
    ("T1059.001", "PowerShell"),
    ("T1059.004", "Unix Shell"),
    ("T1069", "Permission Groups Discovery"),
    ("T1070", "Indicator Removal"),
    ("T1071", "Application Layer Protocol"),
    ("T1071.001", "Web Protocols"),
    ("T1071.004", "DNS"),
    ("T1078", "Valid Accounts"),
    ("T1078.004", "Cloud Accounts"),
    ("T1082", "System Information Discovery"),
    ("T1083", "File and Directory Discovery"),
    ("T1087", "Account Discovery"),
    ("T1090", "Proxy"),
    ("T1090.003", "Multi-hop Proxy"),
    ("T1095", "Non-Application Layer Protocol"),
    ("T1098", "Account Manipulation"),
    ("T1102", "Web Service"),
    ("T1105", "Ingress Tool Transfer"),
    ("T1106", "Native API"),
    ("T1110", "Brute Force"),
    ("T1110.001", "Password Guessing"),
    ("T1110.002", "Password Cracking"),
    ("T1110.003", "Password Spraying"),
    ("T1110.004", "Credential Stuffing"),
    ("T1111", "Multi-Factor Authentication Interception"),
    ("T1112", "Modify Registry"),
    ("T1114", "Email Collection"),
    ("T1119", "Automated Collection"),
    ("T1132", "Data Encoding"),
    ("T1133", "External Remote Services"),
    ("T1134", "Access Token Manipulation"),
    ("T1135", "Network Share Discovery"),
    ("T1136", "Create Account"),
    ("T1140", "Deobfuscate/Decode Files or Information"),
    ("T1185", "Browser Session Hijacking"),
    ("T1189", "Drive-by Compromise"),
    ("T1190", "Exploit Public-Facing Application"),
    ("T1195", "Supply Chain Compromise"),
    ("T1199", "Trusted Relationship"),
    ("T1203", "Exploitation for Client Execution"),
    ("T1204", "User Execution"),
    ("T1210", "Exploitation of Remote Services"),
    ("T1212", "Exploitation for Credential Access"),
    ("T1213", "Data from Information Repositories"),
    ("T1218", "System Binary Proxy Execution"),
    ("T1219", "Remote Access Tools"),
    ("T1482", "Domain Trust Discovery"),
    ("T1485", "Data Destruction"),
    ("T1486", "Data Encrypted for Impact"),
    ("T1489", "Service Stop"),
    ("T1490", "Inhibit System Recovery"),
    ("T1491", "Defacement"),
    ("T1496", "Resource Hijacking"),
    ("T1498", "Network Denial of Service"),
    ("T1499", "Endpoint Denial of Service"),
    ("T1505", "Server Software Component"),
    ("T1505.003", "Web Shell"),
    ("T1526", "Cloud Service Discovery"),
    ("T1528", "Steal Application Access Token"),
    ("T1530", "Data from Cloud Storage"),
    ("T1531", "Account Access Removal"),
    ("T1534", "Internal Spearphishing"),
    ("T1537", "Transfer Data to Cloud Account"),
    ("T1539", "Steal Web Session Cookie"),
    ("T1543", "Create or Modify System Process"),
    ("T1546", "Event Triggered Execution"),
    ("T1547", "Boot or Logon Autostart Execution"),
    ("T1548", "Abuse Elevation Control Mechanism"),
    ("T1550", "Use Alternate Authentication Material"),
    ("T1550.001", "Application Access Token"),
    ("T1550.004", "Web Session Cookie"),
    ("T1552", "Unsecured Credentials"),
    ("T1552.005", "Cloud Instance Metadata API"),
    ("T1555", "Credentials from Password Stores"),
    ("T1556", "Modify Authentication Process"),
    ("T1556.006", "Multi-Factor Authentication"),
    ("T1557", "Adversary-in-the-Middle"),
    ("T1558", "Steal or Forge Kerberos Tickets"),
    ("T1560", "Archive Collected Data"),
    ("T1562", "Impair Defenses"),
    ("T1563", "Remote Service Session Hijacking"),
    ("T1564", "Hide Artifacts"),
    ("T1565", "Data Manipulation"),
    ("T1566", "Phishing"),
    ("T1567", "Exfiltration Over Web Service"),
    ("T1568", "Dynamic Resolution"),
    ("T1569", "System Services"),
    ("T1570", "Lateral Tool Transfer"),
    ("T1571", "Non-Standard Port"),
    ("T1572", "Protocol Tunneling"),
    ("T1573", "Encrypted Channel"),
    ("T1574", "Hijack Execution Flow"),
    ("T1580", "Cloud Infrastructure Discovery"),
    ("T1583", "Acquire Infrastructure"),
    ("T1584", "Compromise Infrastructure"),
    ("T1586", "Compromise Accounts"),
    ("T1589", "Gather Victim Identity Information"),
    ("T1590", "Gather Victim Network Information"),
    ("T1592", "Gather Victim Host Information"),
    ("T1594", "Search Victim-Owned Websites"),
    ("T1595", "Active Scanning"),
    ("T1595.001", "Scanning IP Blocks"),
    ("T1595.002", "Vulnerability Scanning"),
    ("T1595.003", "Wordlist Scanning"),
    ("T1606", "Forge Web Credentials"),
    ("T1608", "Stage Capabilities"),
    ("T1621", "Multi-Factor Authentication Request Generation"),
    ("T1649", "Steal or Forge Authentication Certificates"),
    ("T1651", "Cloud Administration Command"),
    ("T1657", "Financial Theft"),
    ("T1685", "Disable or Modify Tools"),
];

/// Tactics by the name that tags bear, with their ids.
const TACTICS: &[(&str, &str, &str)] = &[
    ("reconnaissance", "TA0043", "Reconnaissance"),
    ("resource-development", "TA0042", "Resource Development"),
    ("initial-access", "TA0001", "Initial Access"),
    ("execution", "TA0002", "Execution"),
    ("persistence", "TA0003", "Persistence"),
    ("privilege-escalation", "TA0004", "Privilege Escalation"),
    ("defense-evasion", "TA0005", "Defense Evasion"),
    ("credential-access", "TA0006", "Credential Access"),
    ("discovery", "TA0007", "Discovery"),
    ("lateral-movement", "TA0008", "Lateral Movement"),
    ("collection", "TA0009", "Collection"),
    ("command-and-control", "TA0011", "Command and Control"),
    ("exfiltration", "TA0010", "Exfiltration"),
    ("impact", "TA0040", "Impact"),
];

/// What a tag says in ATT&CK's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attack {
    /// `T1110.004`, `TA0006`.
    pub id: String,
    /// Its name, with its parent's in front; none where the id is not known here.
    pub name: Option<String>,
    /// A technique, or a tactic.
    pub technique: bool,
}

impl Attack {
    /// What the tag means; none if it is no tag of ATT&CK.
    pub fn of(tag: &str) -> Option<Self> {
        let rest = tag.get(..7).filter(|head| head.eq_ignore_ascii_case("attack.")).and(tag.get(7..))?;
        if let Some(id) = technique_id(rest) {
            return Some(Self { name: technique_name(&id), id, technique: true });
        }
        let slug = rest.to_ascii_lowercase().replace('_', "-");
        let (_, id, name) =
            TACTICS.iter().find(|(known, id, _)| *known == slug || id.eq_ignore_ascii_case(rest))?;
        Some(Self { id: (*id).to_owned(), name: Some((*name).to_owned()), technique: false })
    }

    /// The page that explains it.
    pub fn url(&self) -> String {
        match (self.technique, self.id.split_once('.')) {
            (true, Some((parent, sub))) => format!("https://attack.mitre.org/techniques/{parent}/{sub}/"),
            (true, None) => format!("https://attack.mitre.org/techniques/{}/", self.id),
            (false, _) => format!("https://attack.mitre.org/tactics/{}/", self.id),
        }
    }
}

/// `T1110` or `T1110.004` in capitals; none for anything else, so that an address is only ever made of digits.
fn technique_id(text: &str) -> Option<String> {
    let digits = |part: &str, n: usize| part.len() == n && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.strip_prefix(['t', 'T'])?;
    let valid = match number.split_once('.') {
        Some((parent, sub)) => digits(parent, 4) && digits(sub, 3),
        None => digits(number, 4),
    };
    valid.then(|| format!("T{number}"))
}

fn technique_name(id: &str) -> Option<String> {
    let named = |id: &str| {
        let at = TECHNIQUES.binary_search_by(|(known, _)| (*known).cmp(id)).ok()?;
        TECHNIQUES.get(at).map(|(_, name)| *name)
    };
    let own = named(id)?;
    let parent = id.split_once('.').and_then(|(parent, _)| named(parent));
    Some(parent.map_or_else(|| own.to_owned(), |parent| format!("{parent}: {own}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tags_are_told_by_name_with_their_page() {
        let stuffing = Attack::of("attack.t1110.004").unwrap();
        assert_eq!(stuffing.name.as_deref(), Some("Brute Force: Credential Stuffing"));
        assert_eq!(stuffing.url(), "https://attack.mitre.org/techniques/T1110/004/");
        let scan = Attack::of("Attack.T1046").unwrap();
        assert_eq!((scan.id.as_str(), scan.name.as_deref()), ("T1046", Some("Network Service Discovery")));
        let unknown = Attack::of("attack.t9999").unwrap();
        assert_eq!((unknown.id.as_str(), unknown.name), ("T9999", None));
        let tactic = Attack::of("attack.credential_access").unwrap();
        assert_eq!(tactic.url(), "https://attack.mitre.org/tactics/TA0006/");
        assert_eq!(Attack::of("attack.ta0006").as_ref(), Some(&tactic));
    }

    #[test]
    fn what_is_no_tag_of_it_has_no_page() {
        for tag in [
            "",
            "attack.",
            "attack.t12",
            "attack.t1110.4",
            "attack.t1110/../x",
            "cve.2021-44228",
            "attack.é",
            "é",
        ] {
            assert_eq!(Attack::of(tag), None, "{tag}");
        }
    }

    #[test]
    fn the_table_is_in_order_and_says_nothing_twice() {
        assert!(TECHNIQUES.is_sorted_by(|(a, _), (b, _)| a < b));
        for (id, _) in TECHNIQUES {
            assert_eq!(technique_id(id).as_deref(), Some(*id));
        }
    }
}
