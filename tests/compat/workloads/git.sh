set -e
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git config --global user.email a@b.c; git config --global user.name n; git config --global init.defaultBranch main; git config --global protocol.file.allow always
cd /tmp; git init -q r; cd r
for i in 1 2 3 4 5; do echo "line $i" >> file; mkdir -p d$i; cp /etc/passwd d$i/p$i; git add -A; git commit -qm "commit $i"; done
git log --oneline | cat; git status --short; git diff HEAD~2 --stat | cat
git checkout -qb side HEAD~2; echo side > s; git add s; git commit -qm side; git merge -q main -m merge; git log --graph --oneline | head -5
cd ..; git clone -q r c; cd c; git log --oneline | wc -l; git fsck 2>&1 | tail -1; git gc -q; git rev-parse HEAD; git grep -c line | cat; git stash list | cat; git archive HEAD | tar t | wc -l
git clone -q file:///tmp/r ../c2; cd ../c2; git branch -a | cat
