module example/guestbook

go 1.26
