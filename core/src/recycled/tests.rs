use super::Recycled;

#[test]
fn a_list_is_written_anew_only_when_nobody_reads_it() {
    let mut lists = Recycled::default();
    let mut held = Vec::new();
    for round in 0..10 {
        let mut list = lists.take();
        assert!(list.is_empty());
        list.extend([round; 8]);
        held.push(lists.share(list));
        if round % 3 == 0 {
            held.remove(0);
        }
        assert!(
            held.iter()
                .all(|list| list.len() == 8 && list.iter().all(|of| *of == list[0]))
        );
    }
}
