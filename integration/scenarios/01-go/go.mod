module example.test/wordtally

go 1.19
