//! The rules as they were first published: pings for iptables, word for word.

use super::iptables::pattern;
use super::plan::{How, Plan};

/// They.
///
/// # Errors
/// It is not for one door with one ping, in words.
pub fn rules(plan: &Plan<'_>) -> Result<String, String> {
    let ways = || plan.doors.iter().flat_map(|door| &door.ways);
    let mut pings = ways().filter_map(|way| match way.how {
        How::Ping { secret, .. } => Some(secret),
        How::Sequence { .. } => None,
    });
    let (Some(secret), None) = (pings.next(), pings.next()) else {
        return Err("--classic is for a door with one ping; name it with --door".to_owned());
    };
    let pattern = pattern(secret);
    let head = plan.head(
        &"\n\
          The rules as they were first published. Two things are left to do, for instance:\n\
          \x20   iptables -A knock-ok -p tcp --dport 22 -j ACCEPT\n\
          \x20   iptables -A INPUT -j knock\n\
          \n\
          They take the ping of 64-bit Linux alone, whose second copy of the secret begins at\n\
          byte 60 of the packet, and on Linux 6.7 and later not even that: a pattern must end\n\
          there before --to. Without --classic the rules are strict and take every ping.\n\
          \n\
          To load it:\n\
          \x20   sh FILE\n\
          To take it away, once INPUT does not lead here any more:\n\
          \x20   iptables -F knock; iptables -F knock-ok; iptables -X knock; iptables -X knock-ok"
            .lines()
            .map(str::to_owned)
            .collect::<Vec<String>>(),
    );
    Ok(format!(
        "#!/bin/sh\n{head}\n\
         iptables -N knock\n\
         iptables -N knock-ok\n\
         \n\
         iptables -A knock -p icmp --icmp-type echo-request \\\n\
         \x20        -m string {pattern} --algo bm --from 60 --to 61 \\\n\
         \x20        -m recent --set --name knocked \\\n\
         \x20        -j LOG --log-prefix \"KNOCK-OK: \" --log-level 5\n\
         iptables -A knock -m recent --name knocked --update --seconds 60 -j knock-ok\n"
    ))
}
