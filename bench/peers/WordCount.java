// Hadoop's word count on its local runner, with a combiner and two threads of each kind.
import java.io.IOException;
import java.util.StringTokenizer;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.io.*;
import org.apache.hadoop.mapreduce.*;
import org.apache.hadoop.mapreduce.lib.input.FileInputFormat;
import org.apache.hadoop.mapreduce.lib.output.FileOutputFormat;

public class WordCount {
    public static class Map extends Mapper<LongWritable, Text, Text, LongWritable> {
        private final LongWritable one = new LongWritable(1);
        private final Text word = new Text();

        public void map(LongWritable at, Text line, Context out) throws IOException, InterruptedException {
            StringTokenizer words = new StringTokenizer(line.toString());
            while (words.hasMoreTokens()) {
                word.set(words.nextToken());
                out.write(word, one);
            }
        }
    }

    public static class Sum extends Reducer<Text, LongWritable, Text, LongWritable> {
        public void reduce(Text word, Iterable<LongWritable> counts, Context out)
                throws IOException, InterruptedException {
            long sum = 0;
            for (LongWritable count : counts) sum += count.get();
            out.write(word, new LongWritable(sum));
        }
    }

    public static void main(String[] args) throws Exception {
        Configuration conf = new Configuration();
        conf.setInt("mapreduce.local.map.tasks.maximum", 2);
        conf.setInt("mapreduce.local.reduce.tasks.maximum", 2);
        Job job = Job.getInstance(conf, "words");
        job.setJarByClass(WordCount.class);
        job.setMapperClass(Map.class);
        job.setCombinerClass(Sum.class);
        job.setReducerClass(Sum.class);
        job.setNumReduceTasks(4);
        job.setOutputKeyClass(Text.class);
        job.setOutputValueClass(LongWritable.class);
        FileInputFormat.addInputPath(job, new Path("file://" + args[0]));
        FileOutputFormat.setOutputPath(job, new Path("file://" + args[1]));
        System.exit(job.waitForCompletion(true) ? 0 : 1);
    }
}
